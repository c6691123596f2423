/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Colours that people with any colour vision tell apart: Okabe and Ito, "Color Universal Design",
 * 2008. Fixed, so that a stage looks the same in every figure.
 */
#include "report/report-internal.h"

#include <stdlib.h>
#include <string.h>

#define BLACK      "#000000"
#define ORANGE     "#e69f00"
#define SKY        "#56b4e9"
#define GREEN      "#009e73"
#define YELLOW     "#f0e442"
#define BLUE       "#0072b2"
#define VERMILLION "#d55e00"
#define PURPLE     "#cc79a7"
#define GREY       "#8c8c8c"

/* In the order of span_stages; neighbours in time are far apart in hue and lightness. */
static const char *const stage_colours[] = {
    BLUE, ORANGE, SKY, GREEN, VERMILLION, PURPLE, "#444444",
};

static const struct {
    const char *name, *colour;
} components[] = {
    {"bench", GREY},       {"plugin", ORANGE},  {"sluiced", BLUE},    {"ovs-vswitchd", GREEN},
    {"ovsdb-server", SKY}, {"runtime", PURPLE}, {"qemu", VERMILLION}, {"containerd", YELLOW},
};

/* Of Tol's muted scheme (SRON/EPS/TN/09-002), what is far from the above. */
static const char *const others[] = {"#882255", "#44aa99", "#999933", "#332288", "#aa4499", BLACK};

/* So many hundredths of the way to white. */
static void lighten(char colour[8], unsigned share)
{
    unsigned long rgb = strtoul(colour + 1, NULL, 16);
    uint8_t part[3];

    for (int i = 0; i < 3; i++) {
        part[i] = (uint8_t)(rgb >> (16 - 8 * i));
        part[i] = (uint8_t)(part[i] + (255U - part[i]) * share / 100);
    }
    snprintf(colour, 8, "#%02x%02x%02x", part[0], part[1], part[2]);
}

void colour_of_wait(const char *colour, char out[8])
{
    str_copy(out, 8, colour);
    lighten(out, 62); /* as light as none of the others */
}

void colour_of_stage(const char *name, char out[8])
{
    size_t index = span_stage_index(name);
    bool teardown = str_has_prefix(name, "del.");

    if (teardown) {
        index = span_stage_index(name + strlen("del."));
    }
    str_copy(out, 8, index < ARRAY_SIZE(stage_colours) ? stage_colours[index] : GREY);
    if (!teardown && strchr(name, '.')) {
        lighten(out, 50);
    }
}

const char *colour_of_component(const char *name, size_t place)
{
    for (size_t i = 0; i < ARRAY_SIZE(components); i++) {
        if (!strcmp(components[i].name, name)) {
            return components[i].colour;
        }
    }
    return others[place % ARRAY_SIZE(others)];
}
