/** For `connect(url, {codec: msgpack})`. @type {import("./wsrpc.js").Codec} */
export declare const msgpack: import("./wsrpc.js").Codec;
