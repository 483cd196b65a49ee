// SPDX-License-Identifier: MIT
#include "base/err.h"

const char *err_word(int err)
{
    switch (err) {
#define X(name, word, text)                                                    \
    case ERR_##name:                                                           \
        return word;
        ERR_LIST(X)
#undef X
    default:
        return "ok";
    }
}

const char *err_text(int err)
{
    switch (err) {
#define X(name, word, text)                                                    \
    case ERR_##name:                                                           \
        return text;
        ERR_LIST(X)
#undef X
    default:
        return "ok";
    }
}
