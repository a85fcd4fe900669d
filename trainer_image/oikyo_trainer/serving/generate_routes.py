"""POST /v1/chat/completions and /v1/completions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

from jinja2 import TemplateError
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from transformers import PreTrainedTokenizerBase

from ..evaluation.prompts import prompt_tokens, render
from ..evaluation.rendering import Tools
from .edge import Place, place_of, read_json
from .errors import ApiError, body, invalid
from .generator import Generator, Job, Piece, Settings
from .openai_format import DONE, Form, event
from .requests import ChatRequest, CompletionRequest, Sampling
from .state import Served, Server
from .tool_calls import CallReader, style_of

TOKENIZING = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenize")
"""One thread: a long prompt must not stop the event loop."""
FAILED = "the server failed while generating; its log says where"


async def chat(request: Request) -> Response:
    server: Server = request.app.state.server
    server.check("TextGeneration")
    raw = await read_json(request, server.spec.max_body_bytes)
    if isinstance(raw, dict) and {"chat_template", "chat_template_kwargs"} & raw.keys():
        raise ApiError(400, "a chat template is the model's own: a request cannot send one")
    try:
        asked = ChatRequest.model_validate(raw)
    except ValidationError as error:
        raise invalid(error) from None
    model = server.served(asked.model)
    place_of(request).take(model)
    engine = model.generator()
    dialogue = asked.chat()
    try:
        prompt = await _off_loop(lambda: render(engine.tokenizer, dialogue, open_answer=True))
    except TemplateError as error:
        said = str(error)[:200]
        raise ApiError(
            400, f"the model's chat template refuses it: {said}", param="messages"
        ) from None
    reader = _reader(asked, engine.tokenizer, dialogue.tools)
    return await _answer(request, server, asked, model, prompt, reader)


def _reader(
    asked: ChatRequest, tokenizer: PreTrainedTokenizerBase, tools: Tools | None
) -> CallReader | None:
    """Reads the calls in an answer, where any are awaited; refuses a form that it does not know."""
    if not asked.may_call or not tools:
        return None
    style = style_of(str(tokenizer.get_chat_template(tools=tools)))
    if style is None:
        raise ApiError(
            400,
            "the model's chat template writes calls in a form that this server does not read (it reads "
            "JSON in <tool_call>, and Llama 3's JSON): write tool_choice: none to get them as text",
            param="tools",
        )
    return CallReader(style, {tool["function"]["name"] for tool in tools})


async def completions(request: Request) -> Response:
    server: Server = request.app.state.server
    server.check("TextGeneration")
    raw = await read_json(request, server.spec.max_body_bytes)
    try:
        asked = CompletionRequest.model_validate(raw)
    except ValidationError as error:
        raise invalid(error) from None
    model = server.served(asked.model)
    place_of(request).take(model)
    tokenizer = model.generator().tokenizer
    prompt = await _off_loop(lambda: prompt_tokens(tokenizer, asked.prompt))
    return await _answer(request, server, asked, model, prompt)


async def _off_loop(work):  # type: ignore[no-untyped-def]  # any function without arguments
    return await asyncio.get_running_loop().run_in_executor(TOKENIZING, work)


async def _answer(
    request: Request,
    server: Server,
    asked: Sampling,
    model: Served,
    prompt: list[int],
    reader: CallReader | None = None,
) -> Response:
    engine = model.generator()
    settings = settings_of(asked, len(prompt), engine.context_length, server.spec.max_new_tokens)
    job = engine.submit(prompt, settings)
    place = place_of(request)
    place.on_end(job.cancelled.set)
    form = Form(chat=isinstance(asked, ChatRequest), model=model.name)
    if asked.stream:
        events = _events(engine, job, form, reader, asked.wants_usage, place)
        return StreamingResponse(events, media_type="text/event-stream", headers=NO_CACHE)
    pieces = await _unless_gone(request, _collect(engine, job))
    if pieces is None:
        place.abandoned = True
        return Response(status_code=499)
    if pieces[-1].failed:
        raise ApiError(500, FAILED)
    text = "".join(piece.text for piece in pieces)
    if reader is None:
        return JSONResponse(form.whole(text, pieces[-1].finish, job))
    told = reader.push(text)
    rest, calls = reader.end()
    return JSONResponse(
        form.whole(told + rest, "tool_calls" if calls else pieces[-1].finish, job, calls)
    )


NO_CACHE = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""A proxy that buffers would turn a stream into one late answer."""


def settings_of(asked: Sampling, prompt: int, context: int, most: int) -> Settings:
    """How to generate; refuses what does not fit the model or the server."""
    if prompt == 0:
        raise ApiError(400, "the prompt is empty", param="prompt")
    room = context - prompt
    if room < 1:
        raise ApiError(
            400,
            f"the prompt has {prompt} tokens; the model's context is {context}, the answer included",
            code="context_length_exceeded",
        )
    wanted = asked.most_tokens
    if wanted is not None and wanted > min(room, most):
        raise ApiError(
            400,
            f"max_tokens is {wanted}; after this prompt of {prompt} tokens at most "
            f"{min(room, most)} fit",
            param="max_tokens",
        )
    return Settings(
        max_tokens=wanted or min(room, most),
        temperature=1.0 if asked.temperature is None else asked.temperature,
        top_p=1.0 if asked.top_p is None else asked.top_p,
        seed=asked.seed,
        stop=tuple(asked.stop or ()),
    )


async def _collect(engine: Generator, job: Job) -> list[Piece]:
    return [piece async for piece in engine.answer(job)]


async def _unless_gone(request: Request, work) -> list[Piece] | None:  # type: ignore[no-untyped-def]
    """The result of `work`, or None when the client goes away first."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _told(piece: Piece, form: Form, reader: CallReader | None) -> Iterator[str]:
    """The events of a piece of the answer; calls come whole, before the last one."""
    text = piece.text if reader is None else reader.push(piece.text)
    if reader is None or piece.finish is None:
        if text or piece.finish:
            yield form.piece(text, piece.finish)
        return
    rest, calls = reader.end()
    if not calls:
        yield form.piece(text + rest, piece.finish)
        return
    if text + rest:
        yield form.piece(text + rest, None)
    yield form.calls(calls)
    yield form.piece("", "tool_calls")


async def _events(
    engine: Generator,
    job: Job,
    form: Form,
    reader: CallReader | None,
    with_usage: bool,
    place: Place,
) -> AsyncIterator[str]:
    place.abandoned = True  # until the last event is out: a client may leave at any of them
    if form.chat:
        yield form.opening()
    async for piece in engine.answer(job):
        if piece.failed:
            yield event(body(500, FAILED))
            return
        for told in _told(piece, form, reader):
            yield told
    if with_usage:
        yield form.usage_event(job)
    place.abandoned = False
    yield DONE
