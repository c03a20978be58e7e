// What the compiler refuses: each line that is marked would be an error of the user's.
import { connect } from "./wsrpc.js";
import { Hello } from "./consumer.js";

const session = connect();
const hello = session.clientize(Hello);
// @ts-expect-error a misspelt argument
hello.greet({ nam: "Ann" });
// @ts-expect-error an argument of another type
hello.greet({ name: 7 });
// @ts-expect-error a missing argument
hello.greet({});
// @ts-expect-error no such method
hello.gret({ name: "Ann" });
// @ts-expect-error no such option
hello.greet({ name: "Ann" }, { timeuot: 5 });
// @ts-expect-error seconds as text
hello.greet({ name: "Ann" }, { timeout: "5" });
// @ts-expect-error a policy that is none
hello.streamTokens({ hello: "w" }, { overflow: "wait" });
// @ts-expect-error a list is no upload
hello.build({ lines: ["a"] });
// @ts-expect-error an upload of another type
hello.build({ lines: new Blob([]) });
// @ts-expect-error a stream's final value is a number
const text: Promise<string> = hello.streamTokens({ hello: "w" }).done;
// @ts-expect-error a codec is an object
connect(".", { codec: "msgpack" });
// @ts-expect-error there is no such state
session.state === "ready";
void text;
