// SPDX-License-Identifier: MIT
#include "base/json_text.h"

void json_text(FILE *out, const char *text)
{
    if (!text) {
        fputs("null", out);
        return;
    }
    fputc('"', out);
    for (const char *p = text; *p; p++)
        if ((unsigned char)*p < ' ')
            fprintf(out, "\\u%04x", (unsigned char)*p);
        else if (*p == '"' || *p == '\\')
            fprintf(out, "\\%c", *p);
        else
            fputc(*p, out);
    fputc('"', out);
}
