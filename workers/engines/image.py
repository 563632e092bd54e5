"""The image engine: images of many jobs are drawn in shared batches, whatever adapters each of them wants.

Four places, so that none waits for another: the event loop keeps the books, one thread draws, one reads adapters, one
writes files. Between two steps of a batch those that nobody wants any more are left out.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from schemas.base import JsonObject
from schemas.catalog import Model
from schemas.errors import EngineDeadError, EngineError, EngineRefusedError
from schemas.events import EngineEvent, Preview
from schemas.image import ImageDefaults, ImageInput
from tasks.adapters import AdapterFile, AdapterSource
from tasks.engine import Capacity, EngineRequest, EngineState
from tasks.logs import get_logger
from tasks.safety import Guard
from workers.engines.adapters import Residents
from workers.engines.drawing import Drawing, Glimpse, Painted
from workers.engines.image_batching import BatchSizes, Canvas, Group, Turns
from workers.engines.image_options import ImageOptions
from workers.engines.inputs import read_input
from workers.engines.options import read_options
from workers.engines.painting import AbandonedError, Look, MemoryShortError, Painter
from workers.engines.pictures import PREVIEW_TYPE, Pixels, write_preview

BATCHES_AHEAD = 2
"""The gate closes when so many batches are inside: the one that is drawn and the next."""
SHORTAGES = 4
SHORTAGE_SECONDS = 0.5
"""How often a single image that does not fit is tried again, and how long the first pause before that is."""

Result = TypeVar("Result")
log = get_logger(__name__)


class ImageEngine:
    """Runs image jobs on one model."""

    def __init__(self, model: Model, make_painter: Callable[[ImageOptions], Painter], source: AdapterSource) -> None:
        self.state = EngineState.NEW
        self._model = model
        self._options = options = read_options(ImageOptions, model)
        self._make_painter = make_painter
        self._inside: dict[str, Drawing] = {}
        self._turns = Turns[Canvas]()
        self._sizes = BatchSizes(options.max_batch, options.batch_seconds)
        self._drawing, self._reading, self._writing = (
            ThreadPoolExecutor(1, name) for name in ("draw", "read", "write")
        )
        self._residents = Residents[Any](source, self._read_adapter, options.max_resident_adapters)
        self._wake = asyncio.Event()
        self._working: asyncio.Task[None] | None = None
        self._painter: Painter | None = None
        self._batches = self._images = 0

    async def load(self) -> None:
        """Bring the model and the catalog's adapters into memory; the first import of its libraries takes longest."""
        self.state = EngineState.LOADING
        self._painter = await _in_thread(self._drawing, self._make_painter, self._options)
        await self._residents.preload(self._model.adapters)
        self._working = asyncio.create_task(self._work())
        log.info("The model is loaded.", model=self._model.alias, **self._painter.describe())

    async def warm_up(self, example: JsonObject | None) -> None:
        """Run the example."""
        self.state = EngineState.WARMING
        if example is not None:
            async for _ in self.run(EngineRequest("warm-up", 1, "image", example)):
                pass
        self.state = EngineState.READY

    def capacity(self) -> Capacity:
        """Count the free slots; there are none while two batches are inside.

        Of one request no more images count than go into a batch: behind them others have their turn.
        """
        slots = self._model.max_in_flight
        images = sum(self._count(drawing) for drawing in self._inside.values())
        room = BATCHES_AHEAD * self._options.max_batch - images
        return Capacity(free=max(0, min(slots - len(self._inside), room)), slots=slots)

    async def run(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        """Run a request in the company of all others."""
        given = _fill_input(request, self._model.image)
        drawing = self._inside[request.job_id] = Drawing(given, Guard(given, self._model))
        try:
            self._check_can(given)
            async with self._residents.hold([use.id for use in given.adapters]) as adapters:
                if not drawing.is_aborted:
                    self._turns.add(drawing.group, drawing.prepare(self._model, adapters))
                    self._wake.set()
                async for event in self._follow(drawing):
                    yield event
        finally:
            self._turns.drop(drawing)
            drawing.let_go()
            if self._inside.get(request.job_id) is drawing:
                del self._inside[request.job_id]

    async def abort(self, job_id: str) -> None:
        """End a request's run without an answer; its images leave their batch after the step that is being made."""
        if job_id in self._inside:
            drawing = self._inside[job_id]
            self._turns.drop(drawing)
            drawing.stop(None)

    def adapters(self) -> frozenset[str]:
        """Return the ids of the adapters in memory."""
        return self._residents.ids

    def stats(self) -> JsonObject:
        """Return where the model is, how much waits and which adapters are in memory."""
        if self._painter is None:
            return {}
        return {
            **self._painter.describe(),
            "batch": len(self._inside),
            "waiting_images": len(self._turns),
            "images_per_batch": round(self._images / self._batches, 2) if self._batches else 0,
            "adapters": sorted(self._residents.ids),
        }

    async def close(self) -> None:
        """Stop after the step that is being made."""
        self.state = EngineState.DEAD
        if self._working is not None:
            self._working.cancel()
        for drawing in self._inside.values():
            drawing.stop(None)
        for thread in (self._drawing, self._reading, self._writing):
            thread.shutdown(wait=False, cancel_futures=True)

    def _count(self, drawing: Drawing) -> int:
        missing = drawing.missing
        return min(missing, self._sizes.limit(drawing.group, None)) if missing > 1 else missing

    def _check_can(self, given: ImageInput) -> None:
        if self.state is EngineState.DEAD or self._painter is None:
            raise EngineDeadError
        if given.scheduler is not None and given.scheduler not in self._painter.schedulers:
            known = ", ".join(self._painter.schedulers)
            raise EngineRefusedError(f"The model cannot use the scheduler '{given.scheduler}', only {known}.")

    async def _read_adapter(self, file: AdapterFile) -> Any:
        painter = self._living()
        return await _in_thread(self._reading, painter.read_adapter, file)

    def _living(self) -> Painter:
        if self._painter is None:
            raise EngineDeadError
        return self._painter

    async def _follow(self, drawing: Drawing) -> AsyncGenerator[EngineEvent, None]:
        """Tell what happens to a request's images until all are written."""
        while drawing.missing:
            news = await drawing.news.get()
            if news is None:
                return
            if isinstance(news, Exception):
                raise news
            if isinstance(news, Painted):
                await _in_thread(self._writing, drawing.write, news)
            elif isinstance(news, Glimpse):
                if (preview := await _in_thread(self._writing, _preview, drawing, news.pixels)) is not None:
                    yield preview
            else:
                yield news
        for event in drawing.finish():
            yield event

    async def _work(self) -> None:
        """Draw batch after batch, for as long as the engine lives."""
        try:
            while self.state is not EngineState.DEAD:
                if not self._turns:
                    self._wake.clear()
                    await self._wake.wait()
                    await asyncio.sleep(self._options.gather_ms / 1000)
                await self._draw_next()
        except Exception:  # whatever it is, those who wait must hear that nobody draws any more
            log.exception("The engine cannot go on.")
            self._die()

    async def _draw_next(self) -> None:
        if taken := self._turns.next_batch(self._limit):
            await self._draw(*taken)

    def _limit(self, group: Group) -> int:
        return self._sizes.limit(group, self._living().free_bytes())

    async def _draw(self, group: Group, canvases: Sequence[Canvas]) -> None:
        painter, loop = self._living(), asyncio.get_running_loop()
        watch, began_at = partial(self._watch, loop, canvases), loop.time()
        try:
            drawn = await _in_thread(self._drawing, painter.draw, group, canvases, watch)
        except AbandonedError:
            return
        except EngineDeadError:
            raise
        except MemoryShortError:
            await self._make_room(group, canvases)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is one image's
            await self._draw_apart(group, canvases, error)
        else:
            self._batches, self._images = self._batches + 1, self._images + len(canvases)
            if len(drawn.pictures) == len(canvases):
                self._sizes.time(group, len(canvases), loop.time() - began_at)
            if drawn.bytes_each is not None:
                self._sizes.learn(group.pixels, drawn.bytes_each)
            for row, pixels in drawn.pictures.items():
                canvas = canvases[row]
                canvas.job.news.put_nowait(Painted(canvas.index, pixels, len(canvases)))

    def _watch(
        self, loop: asyncio.AbstractEventLoop, canvases: Sequence[Canvas], step: int, look: Look
    ) -> Sequence[int]:
        """See a step, in the thread that draws."""
        wanted = [row for row, canvas in enumerate(canvases) if canvas.is_wanted]
        if not wanted:
            raise AbandonedError
        glimpses = dict[Drawing, Glimpse]()
        every = self._model.image.preview_every
        for row in wanted if every and step % every == 0 else ():
            canvas = canvases[row]
            if step < canvas.job.group.steps and canvas.job not in glimpses:
                glimpses[canvas.job] = Glimpse(look(row))
        loop.call_soon_threadsafe(_tell_step, [canvases[row] for row in wanted], step, glimpses)
        return wanted

    async def _make_room(self, group: Group, canvases: Sequence[Canvas]) -> None:
        """Have a batch that did not fit drawn again in smaller ones; one image that does not fit waits a while."""
        painter = self._living()
        log.warning("A batch did not fit into memory; it is drawn again in smaller ones.", images=len(canvases))
        self._sizes.halve(group.pixels, len(canvases))
        if len(canvases) == 1:
            self._residents.tidy(0)
            await self._bear_shortage(canvases[0])
        await _in_thread(self._drawing, painter.give_back)
        self._turns.put_back(group, [canvas for canvas in canvases if canvas.is_wanted])

    async def _bear_shortage(self, canvas: Canvas) -> None:
        canvas.shortages += 1
        if canvas.shortages > SHORTAGES:
            given = canvas.job.given
            message = f"The device has too little memory for {given.width}x{given.height}; ask for a smaller image"
            canvas.job.stop(EngineError(f"{message}, or try again when the device is less busy."))
        else:
            await asyncio.sleep(SHORTAGE_SECONDS * canvas.shortages)

    async def _draw_apart(self, group: Group, canvases: Sequence[Canvas], error: Exception) -> None:
        """Look in the halves of a batch that failed for the image that it fails for."""
        if len(canvases) == 1:
            log.error("An image failed.", exc_info=error)
            canvases[0].job.stop(EngineError(f"The engine failed at image {canvases[0].index} (counted from 0)."))
            return
        middle = len(canvases) // 2
        for half in (canvases[:middle], canvases[middle:]):
            await self._draw(group, half)

    def _die(self) -> None:
        self.state = EngineState.DEAD
        for drawing in self._inside.values():
            drawing.stop(EngineDeadError())


def _preview(drawing: Drawing, pixels: Pixels) -> Preview | None:
    return None if drawing.judge(pixels) else Preview(write_preview(pixels), PREVIEW_TYPE)


def _tell_step(canvases: Sequence[Canvas], step: int, glimpses: dict[Drawing, Glimpse]) -> None:
    for canvas in canvases:
        canvas.step = step
    for drawing in dict.fromkeys(canvas.job for canvas in canvases):
        drawing.tell_progress()
        if drawing in glimpses:
            drawing.news.put_nowait(glimpses[drawing])


async def _in_thread(thread: ThreadPoolExecutor, work: Callable[..., Result], *arguments: object) -> Result:
    return await asyncio.get_running_loop().run_in_executor(thread, work, *arguments)


def _fill_input(request: EngineRequest, defaults: ImageDefaults) -> ImageInput:
    """Return the input; what it leaves open (a warm-up does) the model's defaults fill."""
    given = read_input(request, ImageInput.model_validate)
    usual = {name: getattr(defaults, name) for name in ("width", "height", "steps", "guidance")}
    usual["seed"] = secrets.randbits(32)
    return given.model_copy(update={name: value for name, value in usual.items() if getattr(given, name) is None})


def create(model: Model, device: str, locate: Callable[[str], str], adapters: AdapterSource) -> ImageEngine:
    """Make the engine of a placement."""

    def make_painter(options: ImageOptions) -> Painter:
        folder = locate(model.source)  # first: a folder that is not there is told at once
        # Imported by the thread that loads: diffusers takes seconds, in which the worker already says that it loads.
        from workers.engines.painter import DiffusersPainter  # noqa: PLC0415 - takes seconds

        return DiffusersPainter(folder, revision=model.revision, device=device, options=options)

    return ImageEngine(model, make_painter, adapters)
