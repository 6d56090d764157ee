// Builds the component: the handler, a JavaScript engine, and the bindings for the world `transcriber` in wit/.

import { writeFile } from "node:fs/promises";
import { componentize } from "@bytecodealliance/componentize-js";

const { component } = await componentize({
  sourcePath: "handler.js",
  witPath: "wit",
  worldName: "transcriber",
});
await writeFile("word-count-javascript.wasm", component);
