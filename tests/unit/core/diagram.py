"""The diagram and the table of docs/explanation/states.md, made from the machine's own table.

    python -m tests.unit.core.diagram docs/explanation/states.md

writes both anew; `test_diagram` compares.
"""

from __future__ import annotations

import sys
from pathlib import Path

from procd.core.states import TABLE, Rule, State, Trigger

DOCUMENT = Path(__file__).parents[3] / "docs" / "explanation" / "states.md"

BEGIN = "<!-- made from procd/core/states.py by tests/unit/core/diagram.py -->"
END = "<!-- end of what is made -->"


def diagram() -> str:
    """Every way from one state to another, as a Mermaid state diagram."""
    lines = ["```mermaid", "stateDiagram-v2", "    direction LR", f"    [*] --> {State.STOPPED.value}"]
    for state in State:
        words: dict[State, list[str]] = {}
        for trigger in Trigger:
            rule = TABLE[state].get(trigger)
            if rule is not None and rule.target is not state:
                words.setdefault(rule.target, []).append(trigger.value)
        lines += [
            f"    {state.value} --> {target.value}: {', '.join(triggers)}" for target, triggers in words.items()
        ]
    return "\n".join([*lines, "```"])


def table() -> str:
    """What each trigger does in each state: a row for each trigger, a column for each state."""
    header = ["trigger", *(state.value for state in State)]
    rows = [header, ["---"] * len(header)]
    rows += [
        [trigger.value, *(_cell(state, TABLE[state].get(trigger)) for state in State)] for trigger in Trigger
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(state: State, rule: Rule | None) -> str:
    """`-` is an error, `·` stays where it is; what is done on the way stands in brackets."""
    if rule is None:
        return "-"
    target = "·" if rule.target is state else rule.target.value
    done = "; ".join(effect.value for effect in rule.effects)
    return f"{target} ({done})" if done else target


def rendered(text: str) -> str:
    """A document with what stands between the two marks made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{diagram()}\n\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    document = Path(sys.argv[1])
    document.write_text(rendered(document.read_text(encoding="utf-8")), encoding="utf-8")
