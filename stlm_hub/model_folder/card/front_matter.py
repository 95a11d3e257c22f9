"""What the Hub reads of a model card: licence, tags and the model index with its figures."""

from __future__ import annotations

from huggingface_hub import EvalResult, ModelCardData

from ...models.stlm.config import STLMConfig
from ...models.stlm.judging import Judging
from ..figures import METRICS
from ..results import Results
from .figures import map_before
from .licences import LICENSES, licences
from .text import Ready, slug

BASE_MODEL = "dhkim2810/MobileSAM"  # whose weights the streams start from
TAGS = ("anomaly-detection", "anomaly-segmentation", "industrial-inspection", "stlm")


def front_matter(results: Results, config: STLMConfig, judging: Judging, repo_id: str) -> Ready:
    """YAML, without the lines of dashes around it. Fractions are as in results.json."""
    dataset = results.dataset.name or config.dataset
    license, tag, hub_id = licences(results).weights, slug(dataset), results.dataset.hub_id
    evaluations = _evaluations(results, config, judging, dataset)
    data = ModelCardData(
        license=license if license in LICENSES else "other",
        license_name=slug(license) if license and license not in LICENSES else None,
        library_name="stlm_hub",
        pipeline_tag="image-segmentation",
        tags=[*TAGS, *([tag] if is_public(results) and tag else [])],
        base_model=BASE_MODEL,
        base_model_relation="finetune",
        datasets=[hub_id] if hub_id else None,
        model_name=repo_id.rsplit("/", 1)[-1] if evaluations else None,
        eval_results=evaluations or None,
    )
    return Ready(data.to_yaml())


def is_public(results: Results) -> bool:
    """Whether others can get the photographs, so that their name says something."""
    return bool(results.dataset.homepage or results.dataset.hub_id)


def _evaluations(results: Results, config: STLMConfig, judging: Judging, dataset: str) -> list[EvalResult]:
    # Figures of photographs that may have chosen the map, or of other scales than the model's, are none to compare by.
    others = map_before(results, judging) or (results.recalibration and judging.judge_by == "combined")
    figures = results.figures(judging.judge_by)
    if others or figures is None:
        return []
    split = results.dataset.split
    name = f"{dataset} ({config.category})" if config.category else dataset
    return [
        EvalResult(
            task_type="image-segmentation",
            task_name="Anomaly detection and segmentation",
            dataset_type=results.dataset.hub_id or slug(dataset) or "private",
            dataset_name=(name or "private") + ("" if split and split.official else ", not an official split"),
            dataset_config=config.category or None,
            dataset_split="test",
            metric_type=METRICS[key][1],
            metric_name=METRICS[key][0],
            metric_value=value,
        )
        for key, value in figures.to_dict().items()
    ]
