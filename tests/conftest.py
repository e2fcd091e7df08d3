"""What all tests share: no network, a home of their own, and two tiny models made once."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # small_run.py and others are plain modules, however pytest imports
pytest_plugins = ["small_run", "probing"]

# Before torch and the tokenizers are imported: two tests beside each other must not fight for cores, results must not
# depend on how many there are, and nothing may reach out.
os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", NO_COLOR="1")

TEXTS = (
    "Customer: My order 4711 has not arrived. Agent: I am sorry. It left our house on Monday.",
    "Customer: The lamp flickers and then goes dark. Agent: Please send us a photo of the label.",
    "Customer: Can I change the address of my parcel? Agent: Yes, until six in the evening.",
    "Customer: I was billed twice in May. Agent: I have returned the second payment of 12.50 euros.",
    "The customer asks where order 4711 is; the agent says that it left on Monday.",
    "A lamp is broken, and the agent asks for a photo of its label.",
    "The customer wants another address for a parcel, which is possible until six.",
    "A double bill of May was paid back.",
    "Ein Café in Köln möchte 20 Stühle. 東京の椅子 🪑",
)


@pytest.fixture(scope="session", autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str | None]:
    """Keep the tests out of the user's folder of models; yields what TUNESMITH_HOME was before."""
    before = os.environ.get("TUNESMITH_HOME")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESMITH_HOME", str(tmp_path_factory.mktemp("home")))
        yield before


@pytest.fixture(autouse=True)
def talkative() -> Iterator[None]:
    """Let no test be quiet because one before it gave --quiet."""
    from tunesmith.progress import be_quiet

    yield
    be_quiet(False)


@pytest.fixture
def users_home(own_home: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the folder of models that the user has; for tests marked ``network``."""
    if own_home is None:
        monkeypatch.delenv("TUNESMITH_HOME")
    else:
        monkeypatch.setenv("TUNESMITH_HOME", own_home)


@pytest.fixture(scope="session")
def steady_torch() -> None:
    """One thread, and an error for every operation that may answer differently next time."""
    import torch

    from tunesmith.models.load import quiet

    quiet()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())  # cards lack some


@pytest.fixture(scope="session")
def texts() -> tuple[str, ...]:
    """A few short texts, in several scripts."""
    return TEXTS


@pytest.fixture(scope="session")
def tiny_causal(tmp_path_factory: pytest.TempPathFactory, steady_torch: None) -> Path:
    """Folder of a tiny random causal model. Read it, do not write into it."""
    from tunesmith.models.tiny import write_tiny

    return write_tiny(tmp_path_factory.mktemp("models") / "tiny-causal", kind="causal", texts=TEXTS)


@pytest.fixture(scope="session")
def tiny_seq2seq(tmp_path_factory: pytest.TempPathFactory, steady_torch: None) -> Path:
    """Folder of a tiny random encoder-decoder. Read it, do not write into it."""
    from tunesmith.models.tiny import write_tiny

    return write_tiny(tmp_path_factory.mktemp("models") / "tiny-seq2seq", kind="seq2seq", texts=TEXTS)


@pytest.fixture(scope="session")
def tiny_qwen2(tmp_path_factory: pytest.TempPathFactory, steady_torch: None) -> Path:
    """Folder of a tiny random causal model whose queries, keys and values have biases. Do not write into it."""
    import torch
    from transformers import AutoConfig, Qwen2Config, Qwen2ForCausalLM

    from tunesmith.models.tiny import write_tiny

    folder = write_tiny(tmp_path_factory.mktemp("models") / "tiny-qwen2", kind="causal", texts=TEXTS)
    known = AutoConfig.from_pretrained(folder).to_dict()
    same = {name: known[name] for name in Qwen2Config().to_dict() if name in known and name != "model_type"}
    with torch.random.fork_rng(devices=()), torch.no_grad():
        torch.manual_seed(0)
        model = Qwen2ForCausalLM(Qwen2Config(**same))
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_(0, 0.1)  # they would begin as zero, and a bias that is left out would not be noticed
        model.save_pretrained(folder)
    return folder
