"""Example handler: `POST` a recording, and it responds with the number of words in it."""

from collections.abc import Iterator

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import inference
from wit_world.imports.features import Hint, Recording
from wit_world.imports.inference import Transcription
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.types import Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        try:
            status, text = 200, f"{count(request)}"
        except Err as error:
            # Pipeline errors have a code, their class, and a text that says what to do.
            status, text = 400, f"{type(error.value).__name__}: {getattr(error.value, 'value', '')}"
        respond(response_out, status, f"{text}\n")


def count(request: IncomingRequest) -> int:
    # Stream the request body to the component `audio`.
    recording = Recording(Hint(media_type=None, file_name=None))
    for chunk in chunks(request):
        recording.append(chunk)

    # Push its frames to the host, block by block, and read the segments.
    model = inference.models()[0]
    frames = Recording.open(recording, model.n_mels)
    transcription = Transcription.start(inference.default_options())
    while block := frames.read():
        transcription.push(block)
    transcription.finish()
    words = 0
    while segment := transcription.next():
        words += len(segment.text.split())
    return words


def chunks(request: IncomingRequest) -> Iterator[bytes]:
    """Chunks of the request body."""
    with request.consume() as body, body.stream() as stream:
        while True:
            try:
                yield stream.blocking_read(64 * 1024)
            except Err as error:
                if isinstance(error.value, StreamError_Closed):
                    return
                raise


def respond(response_out: ResponseOutparam, status: int, text: str) -> None:
    response = OutgoingResponse(Fields())
    response.set_status_code(status)
    body = response.body()
    ResponseOutparam.set(response_out, Ok(response))
    with body.write() as stream:
        stream.blocking_write_and_flush(text.encode())
    OutgoingBody.finish(body, None)
