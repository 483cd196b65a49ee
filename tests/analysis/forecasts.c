/* Forecasts of the hourly means of the real series of the Numenta Anomaly Benchmark.
 *
 * From each midnight (every 24 samples) after the first half of a series, the
 * next 24 hours are forecast from what was before. The error is the mean absolute
 * one over all of them, divided by that of seasonal naive (the hour of yesterday)
 * on the same hours; series count alike. Where the kernel says that it cannot
 * forecast, it gives the naive path and scores 1 by that. */
// SPDX-License-Identifier: MIT
#include "analysis.h"
#include "ml/forecast.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DAY = 24, HOURS = 65536, PATH = 4096 };

struct totals {
    double series, ratio, beats, inside, hours, forecasts, seconds;
};

/* Hourly means; an hour without a sample is NaN. */
static size_t read_hours(const char *path, double *x)
{
    static double count[HOURS];
    char line[256];
    long first = -1, last = 0;
    FILE *f = data_open(path);
    memset(count, 0, sizeof count);
    memset(x, 0, HOURS * sizeof *x);
    while (fgets(line, sizeof line, f)) {
        struct tm tm = {0};
        const char *value = strptime(line, "%Y-%m-%d %H:%M:%S", &tm);
        if (!value)
            continue;
        long hour = (long)(timegm(&tm) / 3600);
        first = first < 0 ? hour : first;
        if (hour < first || hour - first >= HOURS)
            continue;
        last = hour - first;
        x[last] += strtod(value + strcspn(value, ",") + 1, NULL);
        count[last]++;
    }
    fclose(f);
    for (long h = 0; h <= last; h++)
        x[h] = count[h] > 0 ? x[h] / count[h] : NAN;
    return first < 0 ? 0 : (size_t)last + 1;
}

static void forecast_series(const double *x, size_t n, struct totals *all)
{
    struct forecast_opts opts = {.steps = DAY};
    struct forecast_step steps[DAY];
    double error = 0, naive = 0;
    for (size_t known = n / 2 / DAY * DAY; known >= DAY && known + DAY <= n; known += DAY) {
        struct forecast f;
        double start = seconds_now();
        if (forecast_make(x, known, &opts, &f, steps) < 0)
            continue;
        all->seconds += seconds_now() - start;
        all->forecasts++;
        all->beats += f.beats;
        for (size_t h = 0; h < DAY; h++) {
            double actual = x[known + h], yesterday = x[known + h - DAY];
            if (!isfinite(actual - yesterday) || !isfinite(steps[h].value))
                continue;
            error += fabs(steps[h].value - actual);
            naive += fabs(yesterday - actual);
            all->inside += steps[h].lo <= actual && actual <= steps[h].hi;
            all->hours++;
        }
    }
    if (!(naive > 0))
        return;
    all->series++;
    all->ratio += error / naive;
    if (getenv("VERBOSE"))
        printf("    %.3f\n", error / naive);
}

static void forecast_folder(const char *dir, const char *folder, struct totals *all)
{
    static double x[HOURS];
    char path[PATH];
    snprintf(path, sizeof path, "%s/nab/%s", dir, folder);
    struct dirent **files;
    int count = scandir(path, &files, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/nab/%s/%s", dir, folder, files[i]->d_name);
        if (strstr(files[i]->d_name, ".csv"))
            forecast_series(x, read_hours(path, x), all);
        free(files[i]);
    }
    if (count >= 0)
        free(files);
}

void bench_forecasts(const char *dir)
{
    struct totals all = {0};
    char path[PATH];
    snprintf(path, sizeof path, "%s/nab", dir);
    struct dirent **folders;
    int count = scandir(path, &folders, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        if (strncmp(folders[i]->d_name, "real", 4) == 0)
            forecast_folder(dir, folders[i]->d_name, &all);
        free(folders[i]);
    }
    if (count >= 0)
        free(folders);
    printf("forecasts: %.0f series, %.0f days, %.1f ms each, %.0f %% said to beat seasonal naive\n", all.series,
           all.forecasts, 1e3 * all.seconds / all.forecasts, 100 * all.beats / all.forecasts);
    row("MASE / that of seasonal naive", all.ratio / all.series, BELOW, 0.9, 1, "seasonal naive");
    row("hours inside the 90 % interval", all.inside / all.hours, ABOVE, 0.85, 0.9, "nominal");
}
