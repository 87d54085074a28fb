"""Photos read back, and a scorecard to show on them."""

from __future__ import annotations

from html.parser import HTMLParser

from hardy.evaluation.scorecard import Environment, Estimate, Scorecard, Skip, Subject

VOID = {"meta", "img", "br", "hr", "input", "link"}
PGD = {"attack": "pgd", "norm": "linf", "eps": 0.3}
NASTY = "<script>alert('x')</script> & \"co\""


class Page(HTMLParser):
    """Elements with their attributes and the text within; refuses tags that do not close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def estimate(
    name: str,
    value: float = 0.98,
    *,
    prop: str = "accuracy",
    headline: bool = False,
    setting: dict | None = None,
    **more,
) -> Estimate:
    content = {
        "property": prop,
        "metric": name,
        "title": name.replace("_", " ").capitalize(),
        "unit": "share",
        "bounds": (0.0, 1.0),
        "dataset": "mnist/test",
        "setting": setting or {},
        "value": value,
        "low": value - 0.011,
        "high": value + 0.009,
        "n": 1000,
        "higher_is_better": True,
        "headline": headline,
    }
    return Estimate(**(content | more))


def scorecard(**changes) -> Scorecard:
    content = {
        "subject": Subject(
            name="compact",
            architecture="compact",
            parameters=839_402,
            classes=10,
            weights_sha256="3f" * 32,
            training={"name": "trades", "attack": {"eps": 0.3}},
        ),
        "environment": Environment(
            command="hardy evaluate runs/trades",
            hardy="0.1.0",
            git_commit="9fceb02",
            git_dirty=True,
            device="cpu",
            packages={"torch": "2.13.0"},
            data={"mnist/test": "ab" * 32},
        ),
        "seed": 7,
        "budget": "quick",
        "limit": 500,
        "properties": ["accuracy", "adversarial"],
        "estimates": [
            estimate("accuracy", headline=True),
            *(estimate("class_accuracy", setting={"class": str(digit)}) for digit in range(10)),
            estimate("robust_accuracy", 0.9, prop="adversarial", headline=True, setting=PGD),
        ],
        "warnings": ["The gradients may be masked."],
        "skipped": [Skip(property="certified_robustness", reason="needs the full budget")],
    }
    return Scorecard(**(content | changes))
