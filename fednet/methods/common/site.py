"""Base classes of a method's site: prepares it, hands questions to what answers them, keeps what rounds leave.

`MethodSite` is any `Responder`, `ImageSite` one that has pictures, `RoundModels` the half of a `Participant` that is
the same in every method. Knows no other site and no network.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from pydantic import BaseModel
from torch import Tensor

from fednet.api import ModelState, Progress, Question, SiteContext
from fednet.data.config import DataConfig
from fednet.data.datasets import ImageSet, class_counts, training_images
from fednet.data.site_data import run_share
from fednet.errors import MethodError
from fednet.federated.site_models import SiteModels
from fednet.federated.state import model_tensors
from fednet.methods.common.announcer import ImageAnnouncer, ImageConfigT
from fednet.methods.common.capabilities import ImageCapabilities
from fednet.methods.common.config import Permission
from fednet.methods.common.disclosure import Disclosure
from fednet.methods.common.options import require_known
from fednet.privacy.disclosures import LEDGER_FOLDER, DisclosureLedger
from fednet.reporting.record import RunRecord

ConfigT = TypeVar("ConfigT", bound=BaseModel)
LoadedT = TypeVar("LoadedT")

PERMISSIONS = "disclose."
"""Before the name of a permission, in the configuration."""

QuestionHandlers = Mapping[str, Callable[[Question], Mapping[str, Tensor]]]
"""What answers each question that a site can be asked, by `Question.task`."""


class MethodSite(ABC, Generic[ConfigT]):
    """One site of a method (a `Responder`).

    A subclass provides `prepare`, and `handlers`: what answers each question.

    Args:
        config: the run's configuration, the same at every site.
        context: where the site lives.

    Attributes:
        disclosures: what leaves the site, as its method declares it.
    """

    disclosures: ClassVar[tuple[Disclosure, ...]] = ()

    def __init__(self, config: ConfigT, context: SiteContext) -> None:
        self.config, self.context = config, context

    @abstractmethod
    def prepare(self, progress: Progress) -> str:
        """Makes the site ready and returns its capabilities as JSON; see `fednet.api.Responder`."""

    @abstractmethod
    def handlers(self) -> QuestionHandlers:
        """What answers each question."""

    def answer(self, question: Question) -> Mapping[str, Tensor]:
        """Answers one question; the method's README lists them.

        Raises:
            MethodError: the question is unknown, or cannot be answered.
        """
        handlers = self.handlers()
        require_known(question.task, handlers, "question", self.context.name)
        return handlers[question.task](question)

    def record(self, prefix: str, values: Mapping[str, float], step: int) -> None:
        """Writes values to the site's record in the run's folder, as `prefix/name`."""
        with RunRecord(self.context.folder, self.context.name) as record:
            for name, value in values.items():
                record.scalar(f"{prefix}/{name}", value, step)


class ImageSite(ImageAnnouncer[ImageConfigT], MethodSite[ImageConfigT], Generic[ImageConfigT, LoadedT]):
    """A site that has pictures (an `Announcer`, too: a method's site has its announcer before this among its bases).

    A subclass provides `load`, which reads pictures (`read_images`) and makes models; `capabilities`, what the site
    says of itself; and `handlers`. What `load` returned is `loaded` from then on.

    Args:
        config: the run's configuration, the same at every site.
        context: where the site lives; decides its share of the data.
        own: its own pictures or data set, instead of its share of the run's.
    """

    def __init__(self, config: ImageConfigT, context: SiteContext, own: ImageSet | DataConfig | None = None) -> None:
        super().__init__(config, context, own)
        self._parts: dict[str, int] = {}
        self._loaded: LoadedT | None = None

    @property
    def ledgers(self) -> Path:
        """The folder of the site's ledgers."""
        return self.context.folder / LEDGER_FOLDER

    @property
    def disclosure_ledger(self) -> DisclosureLedger:
        """What the site has told of its private pictures without noise."""
        return DisclosureLedger(self.ledgers, self.context.name)

    def disclose(self, question: str, pictures: int) -> None:
        """Enters an answer, which is about to be computed from so many private pictures, in the site's ledger.

        Raises:
            MethodError: the site does not permit it, there are too few pictures, or it was answered as often as the
                site permits.
        """
        key = next(one.permission for one in self.disclosures if one.name == question and one.permission)
        permission = getattr(self.config.disclose, key.removeprefix(PERMISSIONS))
        if not isinstance(permission, Permission):
            raise MethodError(
                f"{self.context.name} does not answer {question!r}, which is computed from its private pictures "
                f"without noise: its owner may set {key} in its configuration"
            )
        if pictures < permission.pictures:
            raise MethodError(f"{self.context.name} answers {question!r} from {permission.pictures} pictures or more")
        self.disclosure_ledger.disclose(question, pictures, permission.times)

    def permits(self) -> tuple[str, ...]:
        """The keys of the configuration that permit questions about private pictures, without noise."""
        return tuple(PERMISSIONS + name for name in self.config.disclose.permitted())

    def disclosed(self) -> tuple[str, ...]:
        """The keys under which the site has answered from private pictures without noise."""
        told = {entry.question for entry in self.disclosure_ledger.entries()}
        return tuple(sorted({one.permission for one in self.disclosures if one.permission and one.name in told}))

    @abstractmethod
    def load(self, progress: Progress) -> LoadedT:
        """Reads the site's pictures and makes its models.

        Raises:
            MethodError: data, models and configuration do not fit each other.
            Stopped: the owner asks for the end.
        """

    @abstractmethod
    def capabilities(self) -> ImageCapabilities:
        """What the site says of itself, once it is loaded."""

    def prepare(self, progress: Progress) -> str:
        """Loads the site and returns its capabilities as JSON; a site that has agreed with nobody is alone.

        Raises:
            MethodError: data, models and configuration do not fit each other.
            Stopped: the owner asks for the end.
        """
        if not self.agreed:
            self.agree({self.context.name: self.announce()})
        self._loaded = self.load(progress)
        said = {"own": self.has_own_data(), "parts": self._parts}
        told = {"permits": self.permits(), "disclosed": self.disclosed()}
        return self.capabilities().model_copy(update=said | told).model_dump_json()

    @property
    def loaded(self) -> LoadedT:
        """What `load` returned.

        Raises:
            MethodError: the site has not been prepared.
        """
        if self._loaded is None:
            raise MethodError(f"{self.context.name} is not prepared: call prepare first")
        return self._loaded

    def read_images(self, progress: Progress) -> ImageSet:
        """The site's own pictures, or what it trains on of its share of the run's data; labels are of the run.

        Raises:
            DataError: the data is missing, or cannot be divided so.
        """
        progress.report("reading pictures", 0, 1)
        images = self.read_own_images()
        if images is None:
            images = run_share(self.config.data, self.config.partition, self.context, self.config.held_out_of_run)
        progress.report("reading pictures", 1, 1)
        self.used_as(self.divided(class_counts(images.labels)))
        return images.under(self.classes)

    def read_own_images(self) -> ImageSet | None:
        """All training pictures of the site's own, with labels of their own; None where it has none.

        Raises:
            DataError: they are missing or malformed.
        """
        return self.own if isinstance(self.own, ImageSet | None) else training_images(self.own)

    def used_as(self, parts: Mapping[str, int]) -> None:
        """Notes for the capabilities how many pictures are used for what, see `divided`."""
        self._parts = dict(parts)


class RoundModels(ABC):
    """What rounds begin with and what they leave, for a `Participant` whose models are `SiteModels`.

    A subclass provides `states`, the models, and `contribute`.
    """

    @property
    @abstractmethod
    def states(self) -> SiteModels:
        """The models by name."""

    def initial_state(self, model: str) -> ModelState:
        """The model that every site begins with.

        Raises:
            MethodError: there is no model of this name.
        """
        return self.states.initial_state(model)

    def adopt(self, model: str, number: int, state: ModelState) -> None:
        """Takes over what round `number` of a model has closed with.

        Raises:
            ModelError: it is a model of another shape, or not finite.
        """
        self.states.set_state(model, model_tensors(state), f"round {number} of {model}")
