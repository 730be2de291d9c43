-- What every file of statistics has. The tables and views of single statistics are made from their first release (views.py).
--
-- Schema `released`: the log of releases, folded into tables. Schema `main`: the views and macros that analysts use.
-- Schema `projector`: how far the log was read; it stays in the work file and is not part of what is published.

CREATE SCHEMA released;
CREATE SCHEMA projector;

CREATE TYPE window_kind AS ENUM ('day', 'week', 'month');
COMMENT ON TYPE window_kind IS 'The kinds of window: calendar days, ISO weeks (from Monday), calendar months.';

CREATE TYPE grade AS ENUM ('precise', 'good', 'rough', 'noise');
COMMENT ON TYPE grade IS
  'What a value is good for, by its 95 % bar: precise up to 5 % of the value, good up to 15 %, rough up to 50 %, noise beyond.';

-- ---------------------------------------------------------------------------------------------------------- the work file

CREATE TABLE projector.format (digest VARCHAR NOT NULL);
COMMENT ON TABLE projector.format IS 'Which version of this schema the file was made with.';
COMMENT ON COLUMN projector.format.digest IS 'A hash of the schema: another one means that the file must be made anew.';

CREATE TABLE projector.position (partition INTEGER NOT NULL, next_offset BIGINT NOT NULL);
COMMENT ON TABLE projector.position IS 'How far the log is folded; written in the transaction that folds.';
COMMENT ON COLUMN projector.position.partition IS 'The partition of the topic of releases.';
COMMENT ON COLUMN projector.position.next_offset IS 'The offset of the next record to read.';

CREATE TABLE projector.snapshot (number BIGINT NOT NULL);
COMMENT ON TABLE projector.snapshot IS 'The snapshots that were made of this file and lack nothing but rows of it: another shape of a table empties this one.';
COMMENT ON COLUMN projector.snapshot.number IS 'The number in the name of the snapshot.';

-- ------------------------------------------------------------------------------------------------------------ the releases

CREATE TABLE released.release (
  key         VARCHAR     NOT NULL,  -- without an index: it would be written as a whole at every publication
  statistic   VARCHAR     NOT NULL,
  description VARCHAR     NOT NULL,
  period      window_kind NOT NULL,
  start       DATE        NOT NULL,
  end_date    DATE        NOT NULL,
  number      BIGINT      NOT NULL,
  dimensions  VARCHAR[]   NOT NULL,
  cells       BIGINT      NOT NULL,
  max_cells   BIGINT      NOT NULL,
  rho         DOUBLE      NOT NULL,
  policy      VARCHAR     NOT NULL,
  protects    BOOLEAN     NOT NULL,
  epsilon     DOUBLE,
  delta       DOUBLE      NOT NULL,
  contact     VARCHAR     NOT NULL,
  digest      VARCHAR     NOT NULL
);
COMMENT ON TABLE released.release IS 'One row per release: the noisy result of one window of one statistic, and what it cost.';
COMMENT ON COLUMN released.release.key IS 'statistic/window/number: there is at most one release under a key, ever.';
COMMENT ON COLUMN released.release.statistic IS 'The name of the statistic; its cells are in the table of that name.';
COMMENT ON COLUMN released.release.description IS 'What the statistic tells, as this release describes it.';
COMMENT ON COLUMN released.release.period IS 'The kind of window.';
COMMENT ON COLUMN released.release.start IS 'The first day of the window.';
COMMENT ON COLUMN released.release.end_date IS 'The first day after the window.';
COMMENT ON COLUMN released.release.number IS 'Counts the releases of one window; the views show the highest.';
COMMENT ON COLUMN released.release.dimensions IS 'The names of its dimensions, in order.';
COMMENT ON COLUMN released.release.cells IS 'How many cells were released, the total not included.';
COMMENT ON COLUMN released.release.max_cells IS 'The most cells that one subject may touch in this window.';
COMMENT ON COLUMN released.release.rho IS 'What the release cost: zero-concentrated differential privacy.';
COMMENT ON COLUMN released.release.policy IS 'The version of the policy under which it was made.';
COMMENT ON COLUMN released.release.protects IS 'False: made under a policy for tests, which protects nobody.';
COMMENT ON COLUMN released.release.epsilon IS
  'What a whole month of one subject costs under this policy, all statistics together; empty: without bound.';
COMMENT ON COLUMN released.release.delta IS 'The probability that goes with epsilon.';
COMMENT ON COLUMN released.release.contact IS 'Whom to ask.';
COMMENT ON COLUMN released.release.digest IS 'SHA-256 of the release: shows whether two copies of the log say the same.';

CREATE TABLE released.measure (
  release     VARCHAR NOT NULL,
  measure     VARCHAR NOT NULL,
  description VARCHAR NOT NULL,
  sigma       DOUBLE  NOT NULL,
  bound       BIGINT  NOT NULL,
  rho         DOUBLE  NOT NULL,
  threshold   DOUBLE,
  total       BIGINT,
  total_sigma DOUBLE,
  cells_sum   HUGEINT NOT NULL
);
COMMENT ON TABLE released.measure IS 'One row per measure of a release.';
COMMENT ON COLUMN released.measure.release IS 'The key of the release.';
COMMENT ON COLUMN released.measure.measure IS 'users or events.';
COMMENT ON COLUMN released.measure.description IS 'What the measure counts, as this release describes it.';
COMMENT ON COLUMN released.measure.sigma IS 'The standard deviation of the noise in this measure of every cell.';
COMMENT ON COLUMN released.measure.bound IS 'The most that one subject adds to one cell.';
COMMENT ON COLUMN released.measure.rho IS 'The part of the release''s cost that this measure bears.';
COMMENT ON COLUMN released.measure.threshold IS 'Cells are shown where the noisy users reach it; empty where all cells are declared.';
COMMENT ON COLUMN released.measure.total IS 'The noisy total over all cells, held back ones included; empty where there is none.';
COMMENT ON COLUMN released.measure.total_sigma IS 'The standard deviation of the noise in the total; empty where there is none.';
COMMENT ON COLUMN released.measure.cells_sum IS 'The sum over the cells that were released.';

CREATE TABLE released.dimension (
  statistic   VARCHAR   NOT NULL,
  dimension   VARCHAR   NOT NULL,
  kind        VARCHAR   NOT NULL,
  declared    VARCHAR[] NOT NULL,
  description VARCHAR   NOT NULL,
  newest      DATE      NOT NULL
);
COMMENT ON TABLE released.dimension IS 'One row per form in which a dimension of a statistic was ever declared.';
COMMENT ON COLUMN released.dimension.statistic IS 'The name of the statistic.';
COMMENT ON COLUMN released.dimension.dimension IS 'The name of the dimension.';
COMMENT ON COLUMN released.dimension.kind IS 'catalogue: the values are declared; open: they come from events.';
COMMENT ON COLUMN released.dimension.declared IS 'The declared values in their natural order; none for an open dimension.';
COMMENT ON COLUMN released.dimension.description IS 'What the dimension means.';
COMMENT ON COLUMN released.dimension.newest IS 'The first day of the newest window that has this form.';

CREATE TABLE released.form (
  statistic    VARCHAR   NOT NULL,
  description  VARCHAR   NOT NULL,
  dimensions   VARCHAR[] NOT NULL,
  measures     VARCHAR[] NOT NULL,
  explanations VARCHAR[] NOT NULL,
  has_total    BOOLEAN   NOT NULL,
  start        DATE      NOT NULL,
  end_date     DATE      NOT NULL,
  number       BIGINT    NOT NULL
);
COMMENT ON TABLE released.form IS 'One row per form that releases of a statistic ever had, with the newest release of that form.';
COMMENT ON COLUMN released.form.statistic IS 'The name of the statistic.';
COMMENT ON COLUMN released.form.description IS 'What the statistic tells.';
COMMENT ON COLUMN released.form.dimensions IS 'The names of its dimensions, in order.';
COMMENT ON COLUMN released.form.measures IS 'Its measures, in order.';
COMMENT ON COLUMN released.form.explanations IS 'What each measure counts.';
COMMENT ON COLUMN released.form.has_total IS 'Whether it has totals.';
COMMENT ON COLUMN released.form.start IS 'The first day of the newest window of that form.';
COMMENT ON COLUMN released.form.end_date IS 'The first day after that window.';
COMMENT ON COLUMN released.form.number IS 'The number of its release.';

-- A table, since every query of every statistic needs it, and each fold touches only the rows of its own windows.
CREATE TABLE released.shown (
  key                   VARCHAR     NOT NULL,
  statistic             VARCHAR     NOT NULL,
  description           VARCHAR     NOT NULL,
  period                window_kind NOT NULL,
  start                 DATE        NOT NULL,
  end_date              DATE        NOT NULL,
  number                BIGINT      NOT NULL,
  dimensions            VARCHAR[]   NOT NULL,
  cells                 BIGINT      NOT NULL,
  max_cells             BIGINT      NOT NULL,
  measures              VARCHAR[]   NOT NULL,
  has_total             BOOLEAN     NOT NULL,
  users_sigma           DOUBLE,
  users_variance        DOUBLE,
  users_bound           BIGINT,
  users_threshold       DOUBLE,
  users_sum             HUGEINT,
  users_total           BIGINT,
  users_total_variance  DOUBLE,
  events_sigma          DOUBLE,
  events_variance       DOUBLE,
  events_bound          BIGINT,
  events_threshold      DOUBLE,
  events_sum            HUGEINT,
  events_total          BIGINT,
  events_total_variance DOUBLE
);
COMMENT ON TABLE released.shown IS 'One row per window of a statistic: its release with the highest number, measures in columns.';
COMMENT ON COLUMN released.shown.key IS 'The key of the release.';
COMMENT ON COLUMN released.shown.statistic IS 'The name of the statistic.';
COMMENT ON COLUMN released.shown.description IS 'What the statistic tells.';
COMMENT ON COLUMN released.shown.period IS 'The kind of window.';
COMMENT ON COLUMN released.shown.start IS 'The first day of the window.';
COMMENT ON COLUMN released.shown.end_date IS 'The first day after the window.';
COMMENT ON COLUMN released.shown.number IS 'Its number among the releases of the window.';
COMMENT ON COLUMN released.shown.cells IS 'How many cells were released, the total not included.';
COMMENT ON COLUMN released.shown.dimensions IS 'The names of its dimensions, in order.';
COMMENT ON COLUMN released.shown.max_cells IS 'The most cells that one subject may touch in this window.';
COMMENT ON COLUMN released.shown.measures IS 'Its measures: users, events or both.';
COMMENT ON COLUMN released.shown.has_total IS 'Whether it has totals.';
COMMENT ON COLUMN released.shown.users_sigma IS 'The standard deviation of the noise in users.';
COMMENT ON COLUMN released.shown.users_variance IS 'The variance of the noise in users.';
COMMENT ON COLUMN released.shown.users_bound IS 'The most users that one subject adds to one cell.';
COMMENT ON COLUMN released.shown.users_threshold IS 'The threshold of users, if there is one.';
COMMENT ON COLUMN released.shown.users_sum IS 'The sum of users over the cells that were released.';
COMMENT ON COLUMN released.shown.users_total IS 'The noisy total of users, if there is one.';
COMMENT ON COLUMN released.shown.users_total_variance IS 'The variance of the noise in the total of users.';
COMMENT ON COLUMN released.shown.events_sigma IS 'The standard deviation of the noise in events.';
COMMENT ON COLUMN released.shown.events_variance IS 'The variance of the noise in events.';
COMMENT ON COLUMN released.shown.events_bound IS 'The most events that one subject adds to one cell.';
COMMENT ON COLUMN released.shown.events_threshold IS 'The threshold of events, if there is one.';
COMMENT ON COLUMN released.shown.events_sum IS 'The sum of events over the cells that were released.';
COMMENT ON COLUMN released.shown.events_total IS 'The noisy total of events, if there is one.';
COMMENT ON COLUMN released.shown.events_total_variance IS 'The variance of the noise in the total of events.';

-- ------------------------------------------------------------------------------------------------ bounds and what they mean

-- 1.959964 is the 97.5 % quantile of the normal distribution, to which discrete Gaussian noise comes close enough.
CREATE MACRO bar95(variance) AS 1.959964 * sqrt(variance);
COMMENT ON MACRO bar95 IS 'Half the width of a 95 % interval, from a variance: value ± bar95(variance).';

CREATE MACRO lower95(value, variance) AS CAST(value AS DOUBLE) - bar95(variance);
COMMENT ON MACRO lower95 IS 'The lower 95 % bound of a value with that variance.';

CREATE MACRO upper95(value, variance) AS CAST(value AS DOUBLE) + bar95(variance);
COMMENT ON MACRO upper95 IS 'The upper 95 % bound of a value with that variance.';

-- Counts are whole: a bar under a half leaves one number only, so that a zero without noise is not called noise.
CREATE MACRO grade_of(value, variance) AS CAST(
  CASE
    WHEN value IS NULL OR variance IS NULL THEN NULL
    WHEN bar95(variance) < 0.5 THEN 'precise'
    WHEN value <= 0 OR bar95(variance) > 0.50 * value THEN 'noise'
    WHEN bar95(variance) > 0.15 * value THEN 'rough'
    WHEN bar95(variance) > 0.05 * value THEN 'good'
    ELSE 'precise'
  END AS grade);
COMMENT ON MACRO grade_of IS 'The grade of a value with that variance: precise, good, rough or noise.';

-- SUM(BIGINT) is a HUGEINT, which many clients turn into a floating-point number.
CREATE MACRO sum_of(value) AS CAST(sum(value) AS BIGINT);
COMMENT ON MACRO sum_of IS 'An aggregate: the sum of values, as a BIGINT.';

CREATE MACRO sum_lower(value, variance) AS lower95(sum(value), sum(variance));
COMMENT ON MACRO sum_lower IS 'An aggregate: the lower 95 % bound of a sum of values. Variances add.';

CREATE MACRO sum_upper(value, variance) AS upper95(sum(value), sum(variance));
COMMENT ON MACRO sum_upper IS 'An aggregate: the upper 95 % bound of a sum of values. Variances add.';

CREATE MACRO sum_grade(value, variance) AS grade_of(sum(value), sum(variance));
COMMENT ON MACRO sum_grade IS 'An aggregate: the grade of a sum of values.';

-- ----------------------------------------------------------------------------------------------------------- for analysts

CREATE VIEW noise AS
SELECT s.statistic, s.period, m.measure, m.sigma, bar95(m.sigma ^ 2) AS bar95, m.threshold, m.bound, s.max_cells, m.rho, s.start
FROM released.shown AS s
JOIN released.measure AS m ON m.release = s.key
QUALIFY row_number() OVER (PARTITION BY s.statistic, s.period, m.measure ORDER BY s.start DESC) = 1
ORDER BY s.statistic, s.period, m.measure DESC;
COMMENT ON VIEW noise IS 'How exact each statistic is now: one row per statistic, kind of window and measure, from the newest window.';
COMMENT ON COLUMN noise.statistic IS 'The name of the statistic.';
COMMENT ON COLUMN noise.period IS 'The kind of window.';
COMMENT ON COLUMN noise.measure IS 'users or events.';
COMMENT ON COLUMN noise.sigma IS 'The standard deviation of the noise in every number.';
COMMENT ON COLUMN noise.bar95 IS 'Half the width of the 95 % interval of one number.';
COMMENT ON COLUMN noise.threshold IS 'Cells are shown where the noisy users reach it; empty where all cells are declared.';
COMMENT ON COLUMN noise.bound IS 'The most that one subject adds to one cell; what is beyond is not counted.';
COMMENT ON COLUMN noise.max_cells IS 'The most cells of the statistic that one subject is counted in, in one window.';
COMMENT ON COLUMN noise.rho IS 'What one window of this measure costs.';
COMMENT ON COLUMN noise.start IS 'The first day of the newest window, from which the row is taken.';

CREATE VIEW catalogue AS
WITH newest AS (
  SELECT *
  FROM released.shown
  QUALIFY row_number() OVER (PARTITION BY statistic ORDER BY period, start DESC) = 1
),
span AS (
  SELECT
    statistic,
    CAST(list(DISTINCT period ORDER BY period) AS VARCHAR[]) AS periods,
    min(start) AS first_start,
    max(end_date) AS last_end,
    count(*) AS releases,
    bool_and(protects) AS protects
  FROM released.release
  GROUP BY statistic
)
SELECT
  n.statistic, n.description, n.dimensions, n.measures, n.has_total, s.periods, s.first_start, s.last_end, s.releases,
  s.protects, n.max_cells, n.users_sigma, n.users_bound, n.users_threshold, n.events_sigma, n.events_bound, n.events_threshold
FROM newest AS n
JOIN span AS s USING (statistic)
ORDER BY n.statistic;
COMMENT ON VIEW catalogue IS
  'What there is to know: one row per statistic. Every statistic has a view of its name; with has_total, <name>_total too.';
COMMENT ON COLUMN catalogue.statistic IS 'The name of the statistic and of its view.';
COMMENT ON COLUMN catalogue.description IS 'What it tells.';
COMMENT ON COLUMN catalogue.dimensions IS 'The columns of its view that a cell is made of; none: one number per window.';
COMMENT ON COLUMN catalogue.measures IS 'What is counted: users, events or both.';
COMMENT ON COLUMN catalogue.has_total IS 'Whether there is a view <name>_total with the totals, held back cells included.';
COMMENT ON COLUMN catalogue.periods IS 'The kinds of window that it is released for.';
COMMENT ON COLUMN catalogue.first_start IS 'The first day of the oldest window.';
COMMENT ON COLUMN catalogue.last_end IS 'The first day after the newest window.';
COMMENT ON COLUMN catalogue.releases IS 'How many releases there are.';
COMMENT ON COLUMN catalogue.protects IS 'False: at least one release was made under a policy for tests, which protects nobody.';
COMMENT ON COLUMN catalogue.max_cells IS 'Of the newest of the shortest windows: the most cells that one subject is counted in.';
COMMENT ON COLUMN catalogue.users_sigma IS 'The same window''s noise in users: its standard deviation. All kinds of window: view noise.';
COMMENT ON COLUMN catalogue.users_bound IS 'The most that one subject adds to the users of one cell.';
COMMENT ON COLUMN catalogue.users_threshold IS 'Cells are shown where the noisy users reach it; empty: all cells are shown.';
COMMENT ON COLUMN catalogue.events_sigma IS 'The same window''s noise in events: its standard deviation.';
COMMENT ON COLUMN catalogue.events_bound IS 'The most events of one subject that are counted in one cell.';
COMMENT ON COLUMN catalogue.events_threshold IS 'As users_threshold, if events have one of their own.';

-- A week that straddles two months costs whoever used the application in either month: both are charged in full.
CREATE VIEW ledger AS
WITH charged AS (
  SELECT period, rho, unnest(list_distinct([date_trunc('month', start), date_trunc('month', end_date - 1)])) AS month
  FROM released.release
)
SELECT CAST(month AS DATE) AS month, period, count(*) AS releases, sum(rho) AS rho
FROM charged
GROUP BY ALL
ORDER BY ALL;
COMMENT ON VIEW ledger IS 'What was spent of the privacy budget: one row per calendar month and kind of window.';
COMMENT ON COLUMN ledger.month IS 'The first day of the month. A week that straddles two months is charged to both.';
COMMENT ON COLUMN ledger.period IS 'The kind of window.';
COMMENT ON COLUMN ledger.releases IS 'How many releases were charged.';
COMMENT ON COLUMN ledger.rho IS 'The sum of their costs: zero-concentrated differential privacy.';

CREATE VIEW policies AS
SELECT
  policy, min(start) AS first_start, max(end_date) AS last_end, count(*) AS releases, protects, epsilon, delta, contact
FROM released.release
GROUP BY policy, protects, epsilon, delta, contact
ORDER BY first_start, policy;
COMMENT ON VIEW policies IS 'The versions of the policy under which releases were made.';
COMMENT ON COLUMN policies.policy IS 'The version.';
COMMENT ON COLUMN policies.first_start IS 'The first day of the oldest window released under it.';
COMMENT ON COLUMN policies.last_end IS 'The first day after the newest window released under it.';
COMMENT ON COLUMN policies.releases IS 'How many releases were made under it.';
COMMENT ON COLUMN policies.protects IS 'False: a policy for tests, which protects nobody.';
COMMENT ON COLUMN policies.epsilon IS 'What a whole month of one subject costs, all statistics together; empty: without bound.';
COMMENT ON COLUMN policies.delta IS 'The probability that goes with epsilon.';
COMMENT ON COLUMN policies.contact IS 'Whom to ask.';
