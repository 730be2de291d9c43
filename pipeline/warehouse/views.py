"""The SQL of one statistic: its table, its view, its view of totals, and a comment on every column."""

from collections.abc import Iterator

from pipeline.warehouse.shapes import Column, Shape


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """An SQL text."""
    return "'" + text.replace("'", "''") + "'"


def statements(old: Shape | None, new: Shape) -> Iterator[str]:
    """What turns the database from the old shape of a statistic (``None``: nothing yet) into the new one."""
    if old is None:
        yield from _create(new)
    else:
        yield from _alter(old, new)
    yield from _comments_of_table(new)
    yield from _view(new)
    if new.has_total:
        yield from _view_of_totals(new)


def table(shape: Shape) -> str:
    """Where the cells of a statistic are."""
    return f"released.{quoted(shape.statistic)}"


def type_of(column: Column) -> str:
    """Catalogue dimensions are enumerations, so that they sort in their natural order."""
    return "VARCHAR" if column.values is None else f"ENUM ({', '.join(map(literal, column.values))})"


def _create(shape: Shape) -> Iterator[str]:
    columns = [
        "release VARCHAR NOT NULL",
        "period window_kind NOT NULL",
        "start DATE NOT NULL",
        "end_date DATE NOT NULL",
    ]
    columns += [f"{quoted(column.name)} {type_of(column)}" for column in shape.dimensions]
    columns += [f"{quoted(measure)} BIGINT" for measure, _ in shape.measures]
    yield f"CREATE TABLE {table(shape)} ({', '.join(columns)})"


def _alter(old: Shape, new: Shape) -> Iterator[str]:
    known = {column.name: column for column in old.dimensions}
    for column in new.dimensions:
        name, type_ = quoted(column.name), type_of(column)
        if column.name not in known:
            yield f"ALTER TABLE {table(new)} ADD COLUMN {name} {type_}"
        elif type_ != type_of(known[column.name]):
            yield (
                f"ALTER TABLE {table(new)} ALTER COLUMN {name} SET DATA TYPE {type_} "
                f"USING CAST(CAST({name} AS VARCHAR) AS {type_})"
            )
    for measure, _ in new.measures:
        if measure not in dict(old.measures):
            yield f"ALTER TABLE {table(new)} ADD COLUMN {quoted(measure)} BIGINT"


def _comments(target: str, kind: str, comment: str, columns: dict[str, str]) -> Iterator[str]:
    yield f"COMMENT ON {kind} {target} IS {literal(comment)}"
    for name, text in columns.items():
        yield f"COMMENT ON COLUMN {target}.{quoted(name)} IS {literal(text)}"


_WINDOW_COMMENTS = {
    "period": "The kind of window: day, week or month. Always choose one: the kinds overlap.",
    "start": "The first day of the window.",
    "end_date": "The first day after the window.",
}


def _comment_on(column: Column) -> str:
    if column.values is None:
        return f"{_sentence(column.description)} The values come from events: cells of few users are held back."
    return f"{_sentence(column.description)} All declared values, in their natural order."


def _sentence(text: str) -> str:
    text = text.strip() or "A dimension."
    return text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _comments_of_table(shape: Shape) -> Iterator[str]:
    columns = {"release": "The key of the release."} | _WINDOW_COMMENTS
    columns |= {column.name: _comment_on(column) for column in shape.dimensions}
    columns |= {measure: _on_measure(measure, text) for measure, text in shape.measures}
    yield from _comments(table(shape), "TABLE", f"The released cells. {_sentence(shape.description)}", columns)


def _on_measure(measure: str, description: str) -> str:
    meaning = _sentence(description) if description.strip() else f"How many {measure}."
    return f"{meaning} Noise is in it: it may be negative."


def _bounded(name: str, value: str, variance: str, what: str) -> tuple[list[str], dict[str, str]]:
    """The five columns of one number with their comments."""
    expressions = {
        name: (f"CAST({value} AS BIGINT)", what),
        f"{name}_lower": (f"lower95({value}, {variance})", f"The lower 95 % bound of {name}."),
        f"{name}_upper": (f"upper95({value}, {variance})", f"The upper 95 % bound of {name}."),
        f"{name}_variance": (
            variance,
            f"The variance of the noise in {name}; variances add where values are added.",
        ),
        f"{name}_grade": (
            f"grade_of({value}, {variance})",
            f"What {name} is good for: precise, good, rough or noise.",
        ),
    }
    columns = [f"{expression} AS {quoted(column)}" for column, (expression, _) in expressions.items()]
    return columns, {column: comment for column, (_, comment) in expressions.items()}


def _view(shape: Shape) -> Iterator[str]:
    select = [
        "c.period",  # of the cells, so that a query reads those of its windows and no others
        "c.start",
        "c.end_date",
        *(f"c.{quoted(column.name)}" for column in shape.dimensions),
    ]
    comments = _WINDOW_COMMENTS | {column.name: _comment_on(column) for column in shape.dimensions}
    for measure, description in shape.measures:
        columns, texts = _bounded(measure, f"c.{measure}", f"r.{measure}_variance", _on_measure(measure, description))
        select += columns
        comments |= texts
    yield (
        f"CREATE OR REPLACE VIEW {quoted(shape.statistic)} AS SELECT {', '.join(select)} "
        f"FROM {table(shape)} AS c JOIN released.shown AS r ON r.key = c.release "
        f"AND r.period = c.period AND r.start = c.start WHERE r.statistic = {literal(shape.statistic)}"
    )
    what = f"{_sentence(shape.description)} One row per window and cell. Choose one period before adding."
    yield from _comments(quoted(shape.statistic), "VIEW", what, comments)


def _view_of_totals(shape: Shape) -> Iterator[str]:
    select = ["r.period", "r.start", "r.end_date", "r.cells"]
    comments = _WINDOW_COMMENTS | {"cells": "How many cells the window shows."}
    for measure, _ in shape.measures:
        what = f"The total of {measure} over all cells, held back ones included. Noise is in it."
        columns, texts = _bounded(measure, f"r.{measure}_total", f"r.{measure}_total_variance", what)
        select += columns
        comments |= texts
    # A user may be in several cells, so that only events can be subtracted. All the noises add up.
    if shape.open and "events" in dict(shape.measures):
        columns, texts = _bounded(
            "events_held_back",
            "(r.events_total - r.events_sum)",
            "(r.events_total_variance + r.events_variance * r.cells)",
            "The total less all cells that are shown: the events of those held back. Noise is in it.",
        )
        select += columns
        comments |= texts
    name = quoted(f"{shape.statistic}_total")
    yield (
        f"CREATE OR REPLACE VIEW {name} AS SELECT {', '.join(select)} FROM released.shown AS r "
        f"WHERE r.statistic = {literal(shape.statistic)} AND r.has_total"
    )
    what = f"The totals, one row per window. {_sentence(shape.description)} Not to be added to the cells."
    yield from _comments(name, "VIEW", what, comments)
