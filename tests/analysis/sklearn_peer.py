# What scikit-learn makes of the same data: "auc NAME value", "fit seconds", "score seconds", "kmeans seconds".
# One thread, medians; the rows for speed are those of tests/analysis/tabular.c.
import glob, os, statistics, sys, time
os.environ["OMP_NUM_THREADS"] = "1"
import numpy as np
from sklearn.cluster import KMeans
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

SEEDS = 5
for path in sorted(glob.glob(sys.argv[1] + "/tabular/*.csv*")):
    data = np.loadtxt(path, delimiter=",", ndmin=2)
    x, label = data[:, :-1], data[:, -1]
    auc = [roc_auc_score(label, -IsolationForest(random_state=s).fit(x).score_samples(x)) for s in range(SEEDS)]
    print("auc", os.path.basename(path), statistics.mean(auc))

x = np.fromfile(sys.argv[2], dtype=np.float64).reshape(-1, 8)
fit, score = [], []
for s in range(3):
    t = time.perf_counter()
    forest = IsolationForest(n_estimators=100, max_samples=256, random_state=s, n_jobs=1).fit(x)
    fit.append(time.perf_counter() - t)
    t = time.perf_counter()
    forest.score_samples(x)
    score.append(time.perf_counter() - t)
print("fit", "-", statistics.median(fit))
print("score", "-", statistics.median(score))
x = x.astype(np.float32)
steps = []
for s in range(3):
    start = x[np.random.RandomState(s).choice(len(x), 8, replace=False)]
    t = time.perf_counter()
    means = KMeans(n_clusters=8, init=start, n_init=1, max_iter=30, tol=0, algorithm="full").fit(x)
    steps.append((time.perf_counter() - t) / means.n_iter_)
print("kmeans", "-", statistics.median(steps))
