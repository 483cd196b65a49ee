--- Bounds of the rows of the latency heatmap, ms.
return { 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000 }
