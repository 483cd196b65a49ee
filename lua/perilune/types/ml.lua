---@meta
--- Statistics and models in C: trends, forecasts, change points, outliers, groups, experiments.
--
--     local ml = require "perilune.ml"
--     local t = ml.trend(memory, { threshold = 2e9 })
--     if t.p < 0.01 and t.crossing.crosses then log(("full in %d steps"):format(t.crossing.steps)) end
--
--     local f, why = ml.forecast(rps, { steps = 24, threshold = 5000 })
--     local forest = ml.forest(rows, { seed = 1 })
--     local scores = forest:score(rows)
--
-- A series is a list of numbers in order of time, or a matrix of one column. Rows (samples) are a list of lists of
-- numbers of one length (signals), or a matrix; a matrix saves the copying when the same rows are used again. A missing
-- value is 0/0 (NaN); how it counts stands with each kernel. Indexes begin at 1. A figure that cannot be given is
-- absent (nil), so results can be encoded as JSON; moving_average() alone gives a NaN where it has nothing.
--
-- Misuse (a wrong type, an unknown key, rows of different length) raises an error that says what and where. Everything
-- is deterministic: the same input and seed give the same result on every machine. Copies live in the Lua heap, so
-- script.memory_bytes bounds them. A kernel runs to its end: what is named "heavy" below takes more than some
-- milliseconds on more than some thousand rows; run that by perilune.tasks, where this module is available, too.

---@alias perilune.Series number[]|perilune.Matrix
---@alias perilune.Rows number[][]|perilune.Matrix

---@class perilune.Matrix               #m: rows
---@field shape fun(m): integer, integer          rows and columns
---@field get fun(m, row: integer, column: integer): number
---@field row fun(m, row: integer): number[]
---@field column fun(m, column: integer): perilune.Matrix   a copy: a series

---@class perilune.Crossing
---@field crosses boolean      the line reaches the threshold, now or later
---@field steps? number        after the last sample; 0: it is there already
---@field soonest? number      at the 95 % end of the slope; absent: perhaps never
---@field latest? number

---@class perilune.Trend
---@field n integer            finite samples
---@field slope? number        per step from sample to sample, in the unit of the series; absent below 3 samples
---@field lo? number           of the slope, 95 % confidence
---@field hi? number
---@field level? number        of the line at the last sample
---@field tau number           Kendall's, -1 to 1
---@field p number             that there is no trend, two-sided; autocorrelation is corrected for
---@field r number             the autocorrelation around the line
---@field spread? number       around the line, robust, as a standard deviation
---@field crossing? perilune.Crossing  when a threshold was given

---@class perilune.Forecast
---@field method "seasonal naive"|"damped Holt"|"Holt-Winters"|"combined"
---@field beats boolean        it beats seasonal naive on the series' own past; if not, the naive path is given
---@field mase? number         its mean absolute error there, divided by that of seasonal naive
---@field period integer       season in samples; 1: none
---@field origins integer      it was tried from so many points of the past
---@field values number[]      steps of them
---@field lo? number[]         interval of the coverage asked for; absent when the series is too short
---@field hi? number[]
---@field crossing? {crosses: boolean, expected?: integer, soonest?: integer, latest?: integer}  steps, 1 is the next

---@class perilune.Changepoint
---@field at integer           index of the first sample after the change
---@field mean_before number
---@field mean_after number
---@field sd_before number
---@field sd_after number
---@field weight number        evidence, in penalties; above 1

---@class perilune.TrialResult
---@field verdict "running"|"better"|"worse"|"no_effect"|"inconclusive"
---@field usable boolean       the design suits this series; if not, it can only be "worse" or "inconclusive"
---@field estimate? number     of the effect, in the unit of the values: use logarithms, -0.10 is then 10 % less
---@field lo? number           covers the effect at all looks together with probability 1 - alpha
---@field hi? number
---@field lambda number        likelihood ratio; an effect is real from 1 / alpha on
---@field n integer            windows (experiment) or pairs of blocks (switchback) that counted
---@field sd number            of one of these
---@field before? integer      windows before the change (experiment)
---@field r? number            autocorrelation, inflated (experiment)

---@class perilune.Ewma
---@field add fun(o, x: number, step?: number): number?   `step` (1) after the one before; the mean
---@field mean fun(o): number?
---@field sd fun(o): number

---@class perilune.Forest
---@field score fun(o, rows: perilune.Rows): number[]   as many columns as learned from

---@class perilune.Groups
---@field result fun(o): {k: integer, inertia: number, silhouette?: number, sizes: integer[], centers: number[][], groups: integer[]}
---@field group fun(o, row: number[]): integer, number   the group of a row, and its distance from the centre

---@class perilune.Residual
---@field of fun(o, row: number[]): number, number       squared residual, squared Mahalanobis distance
---@field kept fun(o): integer                           directions

---@class perilune.Detector
---@field next fun(o, row: number[]): {severity: number, alarm: boolean, p_all: number, score: table<string, number>, p: table<string, number>}

---@class perilune.Novel
---@field next fun(o, x: number): number, number         novelty, and the same when it is a new event, else 0

---@class perilune.Conformal
---@field p fun(o, score: number): number
---@field add fun(o, score: number)
---@field count fun(o): integer

---@class perilune.Experiment
---@field before fun(o, canary: number, control: number)
---@field add fun(o, canary: number, control: number): string
---@field result fun(o): perilune.TrialResult

---@class perilune.Switchback
---@field at fun(o, ms: integer): {block: integer, on: boolean, measuring: boolean, over: boolean}
---@field add fun(o, end_ms: integer, length_ms: integer, value: number): string
---@field close fun(o, ms: integer): string
---@field result fun(o): perilune.TrialResult

---@class perilune.ErrorGuard
---@field before fun(o, requests: integer, errors: integer)
---@field add fun(o, canary_requests: integer, canary_errors: integer, control_requests: integer, control_errors: integer): boolean, number, number

---@class perilune.TailGuard
---@field add fun(o, canary_p99: number, canary_requests: integer, control_p99: number, control_requests: integer): boolean

---@class perilune.Sketch
---@field record fun(o, ms: number, times?: integer)
---@field merge fun(o, other: perilune.Sketch): perilune.Sketch
---@field subtract fun(o, other: perilune.Sketch): perilune.Sketch?, string?
---@field copy fun(o): perilune.Sketch
---@field total fun(o): integer
---@field share_above fun(o, ms: number): number?
---@field quantile fun(o, q: number): number?, {lower: number, upper: number, lo: number, hi: number}?

---@class perilune.ml
local ml = {}

--- Copies rows into C memory, for use by several calls.
---@type fun(rows: perilune.Rows): perilune.Matrix
ml.matrix = nil

--- Theil-Sen slope and Mann-Kendall test. Missing values are left out; above 512 samples, medians of 512 blocks are
-- looked at. With a threshold: when the line reaches it (falling = true: from above).
-- Source: Sen 1968; Yue and Wang 2004.
---@type fun(series: perilune.Series, options?: {threshold?: number, falling?: boolean}): perilune.Trend
ml.trend = nil

--- Median and robust spread (1.4826 MAD) of the finite values.
---@type fun(series: perilune.Series): {n: integer, median?: number, spread?: number}
ml.level = nil

--- The q-quantile (0 to 1) of the finite values; nil without any.
---@type fun(series: perilune.Series, q: number): number?
ml.quantile = nil

--- Robust standard deviation of the steps from sample to sample (1.4826 MAD of differences).
---@type fun(series: perilune.Series): number?
ml.volatility = nil

--- Relative change from the median of the window before the last to that of the last: 0.10 is 10 % more. nil when
-- there are fewer than two windows or the earlier median is not above 0.
---@type fun(series: perilune.Series, window: integer): number?
ml.growth = nil

--- Mean of the finite values among the last `window`, for each sample.
---@type fun(series: perilune.Series, window: integer): number[]
ml.moving_average = nil

--- Exponential average: o:add(x, step) takes a value `step` (1) after the one before and returns the mean; o:mean(),
-- o:sd(). `span` is the time constant in steps.
---@type fun(span: number): perilune.Ewma
ml.ewma = nil

--- The period that a series repeats with, in samples, and the autocorrelation there; nothing when there is none.
-- Looks at the last 4096 samples, for periods to a third of them and 1024.
---@type fun(series: perilune.Series): integer?, number?
ml.season = nil

--- Autocorrelation at a lag, -1 to 1.
---@type fun(series: perilune.Series, lag: integer): number
ml.autocorrelation = nil

--- The next `steps` (1 to 512) values with intervals of the coverage (0.9). Damped Holt, Holt-Winters or both, chosen
-- by their errors over the horizon; `period`: the season in samples (found when not given, 1: none). nil and why when
-- there is nothing to go by. Heavy: some 10 ms for 500 samples, the last 4096 are used.
-- Source: Gardner and McKenzie 1985; Gelper, Fried, Croux 2010.
---@type fun(series: perilune.Series, options: {steps: integer, period?: integer, coverage?: number, threshold?: number, falling?: boolean}): perilune.Forecast?, string?
ml.forecast = nil

--- Changes of level or spread by PELT, with a penalty (times log n; 5) that grows with the autocorrelation. At least
-- `segment` (5) samples apart. Missing values are left out. Above 4096 samples, means of blocks. Heavy: time grows
-- with the square of the samples. At most 1024 are returned, `count` says of how many.
-- Source: Killick, Fearnhead, Eckley 2012.
---@type fun(series: perilune.Series, options?: {penalty?: number, passes?: integer, segment?: integer, r_most?: number}): perilune.Changepoint[], {count: integer, used: integer, r: number, penalty: number}
ml.changepoints = nil

--- Do two series of one length move together? Pearson, or Spearman with ranks = true; with `lag`, the strongest of
-- all lags up to that either way (positive: y follows x), its p corrected for them.
-- Source: Bartlett 1946.
---@type fun(x: perilune.Series, y: perilune.Series, options?: {ranks?: boolean, lag?: integer}): {r: number, p: number, n: integer, lag: integer}
ml.correlate = nil

--- Isolation forest: o:score(rows) gives a list, 0 to 1; 0.5 is ordinary, towards 1 set apart. A missing value counts
-- as its column's mean. `trees` (100), `sample` rows each (256, also the most), `seed` (0).
-- Source: Liu, Ting, Zhou 2008.
---@type fun(rows: perilune.Rows, options?: {trees?: integer, sample?: integer, seed?: integer}): perilune.Forest
ml.forest = nil

--- Groups: o:result() is { k, inertia, silhouette, sizes, centers, groups }, o:group(row) the group of a row and its
-- distance from the centre. `k` groups, or as many of 1 to `k_most` (8) as the silhouette says. Scale columns before.
-- Heavy. Source: Arthur and Vassilvitskii 2007.
---@type fun(rows: perilune.Rows, options?: {k?: integer, k_most?: integer, steps?: integer, starts?: integer, seed?: integer}): perilune.Groups
ml.kmeans = nil

--- What usual correlations do not explain: o:of(row) gives the squared residual (PCA, `keep` 0.95 of the variance) and
-- the squared Mahalanobis distance; o:kept() directions. Heavy above 100 columns (1024 at most).
-- Source: Jackson and Mudholkar 1979; Ledoit and Wolf 2004.
---@type fun(rows: perilune.Rows, options?: {keep?: number, floor?: number, clip?: number, shrink?: number}): perilune.Residual
ml.residual = nil

--- Learns from at least 64 clean rows; o:next(row) judges the next sample: { severity, alarm, p_all, score, p }, the
-- last two by channel (edge, shift, pattern). `alpha` (0.01): share of ordinary samples that may alarm. Heavy to make.
---@type fun(rows: perilune.Rows, options?: {alpha?: number, window?: integer, smooth?: number}): perilune.Detector
ml.detector = nil

--- Has this series looked like this before? o:next(x) gives the novelty of a point, and again when it is a new event
-- (else 0). 54 KB each.
---@type fun(options?: {block?: integer, share?: number, rise?: number, quiet?: integer}): perilune.Novel
ml.novel = nil

--- Rank of a score among the last `window`: o:p(score), o:add(score), o:count().
-- Source: Laxhammar and Falkman 2011.
---@type fun(window: integer): perilune.Conformal
ml.conformal = nil

--- Canary beside control, window by window: o:before(canary, control) before the change, o:add(canary, control) after
-- it returns the verdict so far, o:result() the figures (perilune.TrialResult). Smaller is better; give logarithms.
-- Source: Johari, Koomen, Pekelis, Walsh 2022.
---@type fun(options?: {alpha?: number, tau?: number, mde?: number, harm?: number, inflation?: number, r_usable?: number, sd_floor?: number, before?: integer, least?: integer, most?: integer}): perilune.Experiment
ml.experiment = nil

--- The same by switching the change on and off at random: o:at(ms) says what holds ({ block, on, measuring, over }),
-- o:add(end_ms, length_ms, value) takes a window (with two arms: arm 1 minus arm 2), o:close(ms) ends pairs that are
-- over, o:result(). Source: Bojinov, Simchi-Levi, Zhao 2023.
---@type fun(start_ms: integer, options?: {arms?: integer, block_ms?: integer, washout_ms?: integer, seed?: integer, alpha?: number, mde?: number, harm?: number, g?: number, sd_floor?: number, least?: integer, most?: integer}): perilune.Switchback
ml.switchback = nil

--- Has the canary more errors? o:before(requests, errors), o:add(canary requests, canary errors, control requests,
-- control errors) returns whether it tripped, the evidence (trips_at 100) and the deflation.
-- Source: Gruenwald, de Heide, Koolen 2024.
---@type fun(options?: {trips_at?: number, inflation?: number}): perilune.ErrorGuard
ml.error_guard = nil

--- Is the canary's p99 above `ratio` (1.5) times the control's in `bad` (3) of `of` (5) windows of at least `requests`
-- (50)? o:add(canary p99, canary requests, control p99, control requests).
---@type fun(options?: {ratio?: number, bad?: integer, of?: integer, requests?: integer}): perilune.TailGuard
ml.tail_guard = nil

--- Durations in buckets of 1.1 %, 6.5 KB, from 1 us to 68 s: o:record(ms, times), o:merge(other), o:subtract(other)
-- (nil and why when it is not a part), o:copy(), o:total(), o:share_above(ms), o:quantile(q): ms and its bounds
-- { lower, upper (certain), lo, hi (95 % confidence) }. Source: OpenTelemetry exponential histograms.
---@type fun(): perilune.Sketch
ml.sketch = nil
