"""What the table of method 3 computes without a launch: accounting, clipped sums, secure sums, shares, and the wire.

Every function measures one row and returns what the row says. Everything runs in this process on one thread.
"""

from __future__ import annotations

import random as plain
from collections.abc import Callable
from time import perf_counter

import torch
from scipy import stats
from torch import Tensor
from torch.nn.functional import softplus

from fednet.errors import PrivacyError
from fednet.federated.state import pack, unpack
from fednet.models.config import GanConfig
from fednet.models.gan import Discriminator
from fednet.privacy import homomorphic
from fednet.privacy.accounting import Expense, noise_for, spent
from fednet.privacy.dp_sgd import PrivateTrainer
from fednet.privacy.field import SECRETS
from fednet.privacy.masking import sum_masked
from fednet.privacy.noise import NoiseSource
from fednet.privacy.quantise import Quantiser
from fednet.privacy.secure_sum import SecureSumParty
from fednet.privacy.shamir import recover, split
from fednet.privacy.threshold import default_threshold
from protocol.codec import Envelope, decode, encode
from protocol.messages.blobs import MAX_CHUNK, Chunk

DELTA = 1e-5
CASES = (
    ("q 1/92, sigma 1, 92 steps", Expense(1 / 92, 1.0, 92), 1.253, 0.771),
    ("q 1/92, sigma 1, 2300 steps", Expense(1 / 92, 1.0, 2300), 3.362, 3.057),
    ("q 256/60000, sigma 1.1, 14062 steps", Expense(256 / 60000, 1.1, 14062), 2.597, 2.392),
    ("q 64/1437, sigma 1, 449 steps", Expense(64 / 1437, 1.0, 449), 6.937, 6.271),
)
LARGE = 12_650_000
"""Parameters of a model of float32 on the wire."""

Row = tuple[str, str, str, str]
"""What, measured, the source's or prototype's, must reach."""


def epsilons() -> list[Row]:
    """Epsilon by both accountants."""
    rows = []
    for name, expense, rdp, prv in CASES:
        found = spent([expense], DELTA)
        rows.append((f"epsilon: {name}: RDP, PRV", f"{found.rdp:.3f}, {found.prv:.3f}", f"{rdp}, {prv}", "within 1%"))
    noise = noise_for(50.0, DELTA, 1 / 98, 1960)
    return [*rows, ("noise for epsilon 50, q 1/98, 1960 steps", f"{noise:.4f}", ".385", "within 1%")]


def clipped() -> Row:
    """A step of Opacus' gradients against a plain loop over rows."""
    torch.manual_seed(0)
    net, rows, clip, largest = Discriminator(GanConfig(width=8), (1, 16, 16)), torch.randn(16, 1, 16, 16), 0.5, 0.0
    wanted = {name: torch.zeros_like(parameter) for name, parameter in net.named_parameters()}
    for row in rows:
        net.zero_grad()
        softplus(net(row[None])).sum().backward()
        norm = float(torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]).norm())
        for name, parameter in net.named_parameters():
            wanted[name] += min(1.0, clip / norm) * (torch.zeros(()) if parameter.grad is None else parameter.grad)
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    source = NoiseSource.seeded(0)
    private = PrivateTrainer(
        net, lambda parameters: torch.optim.SGD(parameters, lr=1.0), clip=clip, noise=0.0, expected=1.0, source=source
    )
    private.step(softplus(private.rows(rows)))
    for name, parameter in net.named_parameters():
        largest = max(largest, float((before[name] - parameter.detach() - wanted[name]).abs().max()))
    return (
        "clipped sum of 16 rows' gradients against a plain loop: largest difference",
        f"{largest:.1e}",
        "-",
        "<= 1e-5",
    )


def secure() -> list[Row]:
    """Ten parties, of whom three drop after they have dealt their secrets."""
    names = [f"a{number}" for number in range(10)]
    values = {
        name: torch.rand(10_000, generator=torch.Generator().manual_seed(k), dtype=torch.float64) * 2 - 1
        for k, name in enumerate(names)
    }
    quantiser = Quantiser(1.0, len(names))
    coded = {name: quantiser.encode(value) for name, value in values.items()}
    parties = {name: SecureSumParty(name, names, default_threshold(len(names)), b"table") for name in names}
    keys = {name: party.advertise() for name, party in parties.items()}
    sealed = {name: party.share(keys) for name, party in parties.items()}
    for name, party in parties.items():
        party.receive({dealer: boxes[name] for dealer, boxes in sealed.items() if dealer != name})
    alive, gone = names[3:], names[:3]
    masked = {name: parties[name].mask(coded[name]) for name in alive}
    votes = {name: parties[name].vote(alive, gone) for name in alive}
    reveals = {name: parties[name].reveal(votes) for name in alive}
    opened = {name: parties[name].unmask(sum_masked(masked), reveals) for name in alive}
    exact = sum_masked({name: coded[name] for name in alive})
    same = all(torch.equal(total, exact) for total in opened.values())
    truth = torch.stack([values[name].double() for name in alive]).sum(0)
    error = float((quantiser.decode(exact).double() - truth).abs().max())
    bound = quantiser.bound(len(alive))
    uniform = min(_uniform(vector) for vector in masked.values())
    return [
        (
            "secure sum of 10, 3 dropped: the survivors' quantised sum; float error",
            f"{'the same bits' if same else 'DIFFERENT'}; {error:.1e}",
            "-",
            f"bit-exact; <= n/(2 scale) = {bound:.1e}",
        ),
        ("a masked vector against uniform: least p of 7", f"{uniform:.3f}", "-", "> .001"),
    ]


def _uniform(vector: Tensor) -> float:
    """The p-value of a Kolmogorov-Smirnov test of a masked vector, int32 (n,)."""
    return float(stats.kstest(vector.numpy().view("uint32") / 2**32, "uniform").pvalue)


def shamir() -> list[Row]:
    """Secrets shared and recovered a thousand times, and what one share too few says."""
    rows, random = [], plain.Random(0)  # noqa: S311 - which secrets are tried is no secret
    for threshold, count in ((3, 5), (20, 30)):
        right = 0
        for _ in range(1000):
            secret = random.randrange(SECRETS.prime)
            shares = split(secret, threshold, count)
            places = random.sample(sorted(shares), threshold)
            right += recover({place: shares[place] for place in places}, threshold) == secret
        source = "20 of 30 right 0 times" if count == 30 else "leaks"
        rows.append((f"Shamir, {threshold} of {count}: recovered", f"{right} of 1000", source, "1000 of 1000"))
    return [*rows, ("Shamir, t - 1 shares: secrets that fit", _fitting_secrets(random), "-", "every one")]


def _fitting_secrets(random: plain.Random) -> str:
    """With two of three shares, whether any secret at all has a third share that makes it the right one."""
    shares, fitting = split(7, 3, 5), 0
    for _ in range(100):
        guess = random.randrange(SECRETS.prime)
        third = SECRETS.interpolate({0: guess, 1: shares[1], 2: shares[2]}, 3)
        fitting += recover({1: shares[1], 2: shares[2], 3: third}, 3) == guess
    return f"{fitting} of 100 guesses"


def encrypted() -> Row:
    """Ten encrypted vectors of ten thousand numbers, added without a key."""
    what, must = "homomorphic sum of 10 clients, 10,000 numbers: wrong ones", "0 of 10^4"
    try:
        holder = homomorphic.Keyholder()
    except PrivacyError as error:
        return what, f"not measured: {str(error).split(':', 1)[0]}", "8% wrong", must
    random = torch.Generator().manual_seed(0)
    vectors = {f"a{k}": torch.randint(-(2**27), 2**27, (10_000,), generator=random).to(torch.int32) for k in range(10)}
    total = homomorphic.sum_encrypted(holder.public(), {name: holder.mask(vector) for name, vector in vectors.items()})
    wrong = int((holder.unmask(total) != sum_masked(vectors)).sum())
    return what, f"{wrong} of 10000", "8% wrong", must


def wire() -> Row:
    """A large model as the frames of its chunks, decoded again by the other side."""
    random = torch.Generator().manual_seed(0)
    sizes = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.5]).mul(LARGE / 10.5).long().tolist()
    sizes[0] += LARGE - sum(sizes)
    state = {f"layer.{k}": torch.randn(size, generator=random) for k, size in enumerate(sizes)}
    content = torch.frombuffer(bytearray(pack(state)), dtype=torch.uint8)
    sent, arrived, key, total = 0, bytearray(len(content)), "0" * 64, len(content)
    for offset in range(0, total, MAX_CHUNK):
        chunk = Chunk(key=key, total=total, offset=offset, data=content[offset : offset + MAX_CHUNK])
        frames = [bytes(memoryview(frame)) for frame in encode(Envelope("to/a2/", "table", "a1", 1, 0, chunk))]
        sent += sum(map(len, frames))
        message = decode(frames).message
        if isinstance(message, Chunk):
            arrived[message.offset : message.offset + len(message.data)] = message.data.numpy().tobytes()
    found = unpack(bytes(arrived))
    same = all(torch.equal(found[name], tensor) for name, tensor in state.items())
    measured = f"{'bit-exact' if same else 'DIFFERENT'}, {sent / (4 * LARGE):.5f}"
    return (
        "12.65 M float32 over the wire: bytes per raw byte",
        measured,
        "convolutions came back null",
        "bit-exact, <= 1.01",
    )


def rows(say: Callable[[str], None]) -> list[Row]:
    """All rows; `say` hears how long each part took."""
    found: list[Row] = []
    parts: tuple[Callable[[], Row | list[Row]], ...] = (epsilons, clipped, secure, shamir, encrypted, wire)
    for part in parts:
        began = perf_counter()
        measured = part()
        found += measured if isinstance(measured, list) else [measured]
        say(f"{part.__name__}: {perf_counter() - began:.1f} s")
    return found
