// Makes the component: the handler, a JavaScript engine, and the bindings to the world `transcriber` of wit/.

import { writeFile } from "node:fs/promises";
import { componentize } from "@bytecodealliance/componentize-js";

const { component } = await componentize({
  sourcePath: "handler.js",
  witPath: "wit",
  worldName: "transcriber",
});
await writeFile("word-count-javascript.wasm", component);
