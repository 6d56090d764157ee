// Example handler: `POST` a recording, and it responds with the number of words in it.

import { Recording } from "speech:pipeline/features@0.1.0";
import { Transcription, defaultOptions, models } from "speech:pipeline/inference@0.1.0";
import { Fields, IncomingBody, OutgoingBody, OutgoingResponse, ResponseOutparam } from "wasi:http/types@0.2.12";

export const incomingHandler = {
  handle(request, responseOut) {
    try {
      respond(responseOut, 200, `${count(request)}`);
    } catch (error) {
      // Pipeline errors carry a code and a text that says what to do.
      const { tag, val } = error.payload ?? { tag: "error", val: error.message };
      respond(responseOut, 400, `${tag}: ${val}`);
    }
  },
};

function count(request) {
  // Stream the request body to the component `audio`.
  const recording = new Recording({});
  for (const chunk of chunks(request)) recording.append(chunk);

  // Push its frames to the host, block by block, and read the segments.
  const [model] = models();
  const frames = Recording.open(recording, model.nMels);
  const transcription = Transcription.start(defaultOptions());
  for (let block = frames.read(); block; block = frames.read()) transcription.push(block);
  transcription.finish();
  let words = 0;
  for (let segment = transcription.next(); segment; segment = transcription.next()) {
    words += segment.text.split(/\s+/).length;
  }
  return words;
}

/** Chunks of the request body. */
function* chunks(request) {
  const body = request.consume();
  const stream = body.stream();
  try {
    for (;;) yield stream.blockingRead(65536n);
  } catch (error) {
    if (error.payload?.tag !== "closed") throw error;
  } finally {
    stream[Symbol.dispose]();
    IncomingBody.finish(body);
  }
}

function respond(responseOut, status, text) {
  const response = new OutgoingResponse(new Fields());
  response.setStatusCode(status);
  const body = response.body();
  ResponseOutparam.set(responseOut, { tag: "ok", val: response });
  const stream = body.write();
  stream.blockingWriteAndFlush(new TextEncoder().encode(`${text}\n`));
  stream[Symbol.dispose]();
  OutgoingBody.finish(body, undefined);
}
