/// <reference lib="esnext.disposable" preserve="true" />
export type Code = "cancelled" | "unknown" | "invalid_argument" | "deadline_exceeded" | "not_found" | "already_exists" | "permission_denied" | "resource_exhausted" | "failed_precondition" | "aborted" | "out_of_range" | "unimplemented" | "internal" | "unavailable" | "data_loss" | "unauthenticated";
export type State = "connecting" | "open" | "lost" | "closed";
export type Overflow = "block" | "latest" | "drop_oldest" | "fail";
export type Close = {
    code: number;
    reason: string;
};
export type Snapshot = {
    readonly state: State;
    readonly since: number;
    readonly attempt: number;
    readonly nextAttemptAt?: number;
    readonly lastClose?: Close;
    readonly draining: boolean;
    readonly resumes: number;
};
export type CallOptions = {
    /**
     * Milliseconds for the whole call: 30,000 for a value, none for a stream.
     */
    timeout?: number | null;
    /**
     * Milliseconds that the consumer of a stream may wait for an item.
     */
    idleTimeout?: number;
    /**
     * Cancels the call on both sides; it rejects with the signal's reason.
     */
    signal?: AbortSignal;
    /**
     * Travels with the call.
     */
    metadata?: Record<string, string>;
    /**
     * Idempotency key, for the handler.
     */
    key?: string;
    /**
     * Items that the far side may be ahead of the consumer, at first.
     */
    window?: number;
    /**
     * The fate of items that are not taken in time; "block": the far side waits.
     */
    overflow?: Overflow;
    /**
     * Calling twice does no harm, so that it is made again after a lost session.
     */
    idempotent?: boolean;
};
export type ClientOptions = CallOptions & {
    streamFetcher?: StreamFetcher;
};
export type StreamRequest = {
    readonly controller: string;
    readonly method: string;
    readonly args: Record<string, any>;
    readonly options: CallOptions;
    withArgs(changed: Record<string, any>): StreamRequest;
};
export type StreamFetcher = (request: StreamRequest, fetch: (request: StreamRequest) => Stream<any, any>) => AsyncIterable<any>;
export type ConnectOptions = {
    /**
     * Credentials, or a function that gives them within 10 s before each attempt. Only an RpcError `unauthenticated` or `permission_denied` from it ends the session.
     */
    auth?: unknown | ((about: {
        signal: AbortSignal;
        attempt: number;
        lastClose?: Close;
    }) => unknown);
    /**
     * The controllers that the server may call here.
     */
    controllers?: object[] | Record<string, object>;
    /**
     * Answers all other methods.
     */
    fallback?: (method: string, args: any, ctx: CallContext) => unknown;
    /**
     * Whether the server may ask for the names of the controllers and methods.
     */
    reflection?: boolean;
    /**
     * JSON, or `msgpack` of wsrpc-msgpack.js.
     */
    codec?: Codec;
    /**
     * Whether to come back after a lost connection.
     */
    reconnect?: boolean;
    /**
     * Milliseconds of a call for one value.
     */
    timeout?: number | null;
    /**
     * Travels with all calls.
     */
    metadata?: Record<string, string>;
    /**
     * Items. Credit with which streams to this side begin.
     */
    window?: number;
    /**
     * Calls of the server that may run here at a time.
     */
    maxCalls?: number;
    /**
     * Bytes of the largest value taken.
     */
    maxValue?: number;
    /**
     * Sees all frames, secrets blanked.
     */
    trace?: (sent: boolean, frame: any[], at: number) => void;
    /**
     * Shows credentials and tokens as well.
     */
    traceSecrets?: boolean;
    /**
     * Another implementation.
     */
    WebSocket?: any;
};
export type CallContext = {
    session: Session;
    signal: AbortSignal;
    metadata: Record<string, string>;
    key?: string;
    lastId?: string;
    deadline?: number;
    clientize: Session["clientize"];
};
export type MethodFacts = {
    readonly kind: "unary" | "stream" | "notify";
    readonly wire?: string;
    readonly idempotent?: boolean;
    readonly tracked?: boolean;
    readonly bytes?: boolean;
    readonly timeout?: number;
    readonly callbacks?: Readonly<Record<string, number>>;
};
export type Controller<T> = {
    readonly name: string;
    readonly methods: Readonly<Record<string, MethodFacts>>;
    readonly _?: T;
};
export type Upload<T> = AsyncIterable<T> | Generator<T, any, any> | ReadableStream<T> | ([Uint8Array] extends [T] ? Blob : never);
export type Codec = {
    readonly protocol: string;
    readonly binary: boolean;
    encode(value: any): any;
    decode(data: any): any;
    size(part: any): number;
    list(parts: any[]): any;
    bytes(part: any): Uint8Array;
    piece(bytes: Uint8Array): any;
    unite(pieces: any[]): any;
};
export type Methods = Record<string, (this: any, ...args: any[]) => any>;
/** An error of a call: raised by the other side, or by this one on its behalf. */
export declare class RpcError extends Error {
    /** @type {Code} */
    code: Code;
    data: unknown;
    /** Name of the error's class, where the far side has one. @type {string|undefined} */
    type: string | undefined;
    /** Names the entry in the far side's log. @type {string|undefined} */
    errorId: string | undefined;
    /** Whether the handler never began. */
    notStarted: boolean;
    /** Milliseconds. A hint not to try again sooner. @type {number|undefined} */
    retryAfter: number | undefined;
    /** @param {Code} code @param {string} [message] @param {unknown} [data] @param {{type?: string, errorId?: string, notStarted?: boolean, retryAfter?: number, cause?: unknown}} [more] */
    constructor(code: Code, message?: string, data?: unknown, more?: {
        type?: string;
        errorId?: string;
        notStarted?: boolean;
        retryAfter?: number;
        cause?: unknown;
    });
}
/** Base64url of bytes, as they travel in JSON. @param {Uint8Array} bytes */
export declare function toBase64url(bytes: Uint8Array): string;
/** The bytes of a base64url string. @param {string} text */
export declare const fromBase64url: (text: string) => Uint8Array<ArrayBuffer>;
/** Bytes as they come in either codec. @param {string|Uint8Array} bytes */
export declare const toBytes: (bytes: string | Uint8Array) => Uint8Array<ArrayBufferLike>;
/** The codec of `connect`, unless another one is given. @type {Codec} */
export declare const json: Codec;
/**
 * Items from the far side: `for await (const item of stream)`. Leaving the loop cancels the call.
 * @template T
 * @template [F=undefined]
 * @implements {AsyncIterableIterator<T>}
 */
export declare class Stream<T, F = undefined> implements AsyncIterableIterator<T> {
    /** Items that were let go. */
    dropped: number;
    /** The value with which the stream ended, once it has ended. @type {F|undefined} */
    final: F | undefined;
    /** Of a tracked stream: the id of the last item that has come. @type {string|undefined} */
    lastId: string | undefined;
    /** Items that have come and wait for their consumer. @returns {number} */
    get lag(): number;
    /** Settles when the stream is over: its final value, or its error. @returns {Promise<F>} */
    get done(): Promise<F>;
    [Symbol.asyncDispose](): Promise<void>;
    [Symbol.asyncIterator](): this;
    /** @returns {Promise<IteratorResult<T, undefined>>} */
    next(): Promise<IteratorResult<T, undefined>>;
    /** Each time all items that have come by then, so that they can be rendered together. @returns {AsyncGenerator<T[], void, undefined>} */
    batches(): AsyncGenerator<T[], void, undefined>;
    /** Stop it, on the far side too. @returns {Promise<IteratorResult<T, undefined>>} */
    return(): Promise<IteratorResult<T, undefined>>;
    /** Stop it; code that waits for an item gets the reason, or the end. @param {unknown} [reason] */
    cancel(reason?: unknown): void;
    /** All that is left, as an array. @returns {Promise<T[]>} */
    collect(): Promise<T[]>;
    /** @returns {ReadableStream<T>} */
    readable(): ReadableStream<T>;
}
/** The conversation with one server. It outlives lost connections; a `state` event tells of each change. */
export declare class Session extends EventTarget {
    /** Calls a function with the snapshot, at once and after each change; returns a function that ends that. */
    subscribe: (listener: (snapshot: Snapshot) => void) => () => undefined;
    /** @readonly @type {State} */ readonly state: State;
    /** The state of the session: frozen, and another object after each change. Times are those of `Date.now()`. @readonly @type {Snapshot} */ readonly snapshot: Snapshot;
    /** The public name of the session on the wire. @readonly @type {string} */ readonly id: string;
    /** Why the last connection closed. @readonly @type {Close|undefined} */ readonly lastClose: Close | undefined;
    /** Connections so far. @readonly @type {number} */ readonly links: number;
    /** How often the session went on over another connection. @readonly @type {number} */ readonly resumes: number;
    /** Whether the server finishes its calls and then goes. @readonly @type {boolean} */ readonly draining: boolean;
    /** Resolves when the server has let this side in; rejects when it never will. @returns {Promise<void>} */
    ready(): Promise<void>;
    /**
     * A client for a controller of the server's.
     * @template T
     * @overload
     * @param {Controller<T>} which The constant that `wsrpc gen ts` wrote.
     * @param {ClientOptions} [options]
     * @returns {T}
     */
    /**
     * @template [T=any]
     * @overload
     * @param {string} which Its name; the calls of its methods can be awaited and iterated over.
     * @param {ClientOptions} [options]
     * @returns {T}
     */
    /** @param {any} which @param {ClientOptions} [options] @returns {any} */
    clientize<T>(which: Controller<T>, options?: ClientOptions): T;
    /**
     * A client for a controller of the server's.
     * @template T
     * @overload
     * @param {Controller<T>} which The constant that `wsrpc gen ts` wrote.
     * @param {ClientOptions} [options]
     * @returns {T}
     */
    /**
     * @template [T=any]
     * @overload
     * @param {string} which Its name; the calls of its methods can be awaited and iterated over.
     * @param {ClientOptions} [options]
     * @returns {T}
     */
    /** @param {any} which @param {ClientOptions} [options] @returns {any} */
    clientize<T = any>(which: string, options?: ClientOptions): T;
    /** Call by full name, for one value. @param {string} method @param {Record<string, any>} [args] @param {CallOptions} [options] @returns {Promise<any>} */
    call(method: string, args?: Record<string, any>, options?: CallOptions): Promise<any>;
    /** The same for a stream. @param {string} method @param {Record<string, any>} [args] @param {CallOptions} [options] @returns {Stream<any, any>} */
    stream(method: string, args?: Record<string, any>, options?: CallOptions): Stream<any, any>;
    /** The same without an answer; resolves when it is on its way. @param {string} method @param {Record<string, any>} [args] @param {CallOptions} [options] @returns {Promise<void>} */
    notify(method: string, args?: Record<string, any>, options?: CallOptions): Promise<void>;
    /** Let the server call these. @param {object[]|Record<string, object>} controllers */
    expose(controllers: object[] | Record<string, object>): void;
    /** Show fresh credentials on the live connection; at most once in 2 s (AUTH-2). @returns {Promise<void>} */
    refreshAuth(): Promise<void>;
    /** Drop the connection, as a failing network would; the session goes on. */
    cut(): void;
    /** End the session. @param {{drain?: number}} [options] Milliseconds that calls under way may still take; new ones fail. @returns {Promise<void>} */
    close({ drain }?: {
        drain?: number;
    }): Promise<void>;
    [Symbol.asyncDispose](): Promise<void>;
    /** Begin anew after the end; clients and controllers stay good. @param {{auth?: ConnectOptions["auth"]}} [options] @returns {Promise<void>} As `ready` does. */
    reopen(options?: {
        auth?: ConnectOptions["auth"];
    }): Promise<void>;
}
/**
 * Begin a session. It is there at once; calls wait for the connection, within their deadlines.
 * @param {string|URL} [url] `ws://host:port/path`, the same with http, or one relative to the page, such as `/rpc/`; `.` if it is left out.
 * @param {ConnectOptions} [options]
 * @returns {Session}
 * @throws {TypeError} A bad URL or option, or no WebSocket.
 */
export declare function connect(url?: string | URL, options?: ConnectOptions): Session;
