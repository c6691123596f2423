/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenFlow 1.4 messages of a switch, read: every length is checked before what it spans. Source:
 * OpenFlow Switch Specification 1.4.0, section 7.
 */
#include "ovs/openflow-internal.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define MULTIPART_HEADER 16
#define FLOW_STATS       48 /* up to the match */
#define METER_CONFIG     8  /* up to the bands */

static uint16_t get16(const uint8_t *at)
{
    uint16_t value;

    memcpy(&value, at, sizeof(value));
    return be16toh(value);
}

static uint32_t get32(const uint8_t *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return be32toh(value);
}

static uint64_t get64(const uint8_t *at)
{
    uint64_t value;

    memcpy(&value, at, sizeof(value));
    return be64toh(value);
}

int of_read_message(const uint8_t *data, size_t len, struct of_message *ret)
{
    size_t whole;

    if (len < OF_HEADER) {
        return 0;
    }
    whole = get16(data + 2);
    if (whole < OF_HEADER) {
        return -EBADMSG;
    }
    if (len < whole) {
        return 0;
    }
    *ret = (struct of_message){
        .version = data[0], .type = data[1], .xid = get32(data + 4), .data = data, .len = whole};
    return 1;
}

/* Without a bitmap a HELLO's own version is the highest, and all below are spoken too. */
bool of_hello_allows(const struct of_message *message)
{
    size_t at = OF_HEADER;

    while (message->len - at >= 4) {
        size_t len = get16(message->data + at + 2);

        if (len < 4 || len > message->len - at) {
            break;
        }
        if (get16(message->data + at) == 1 && len >= 8) {
            return get32(message->data + at + 4) & 1u << OF_VERSION;
        }
        len = (len + 7) / 8 * 8;
        if (len > message->len - at) {
            break;
        }
        at += len;
    }
    return message->version >= OF_VERSION;
}

bool of_read_error(const struct of_message *message, uint16_t *ret_type, uint16_t *ret_code)
{
    if (message->type != OF_ERROR || message->len < OF_HEADER + 4) {
        return false;
    }
    *ret_type = get16(message->data + 8);
    *ret_code = get16(message->data + 10);
    return true;
}

int of_read_multipart(const struct of_message *message, enum of_multipart what,
                      const uint8_t **ret_body, size_t *ret_len, bool *ret_more)
{
    if (message->type != OF_MULTIPART_REPLY || message->len < MULTIPART_HEADER ||
        get16(message->data + 8) != what) {
        return -EBADMSG;
    }
    *ret_body = message->data + MULTIPART_HEADER;
    *ret_len = message->len - MULTIPART_HEADER;
    *ret_more = get16(message->data + 10) & 1;
    return 0;
}

int of_read_aggregate(const uint8_t *body, size_t len, uint32_t *ret_flows)
{
    if (len < 20) {
        return -EBADMSG;
    }
    *ret_flows = get32(body + 16);
    return 0;
}

int of_read_flow(const uint8_t **body, size_t *len, struct of_flow_stats *ret)
{
    const uint8_t *at = *body;
    size_t whole;

    if (*len == 0) {
        return 0;
    }
    whole = *len < FLOW_STATS ? 0 : get16(at);
    if (whole < FLOW_STATS || whole > *len) {
        return -EBADMSG;
    }
    *ret = (struct of_flow_stats){
        .cookie = get64(at + 24), .table = at[2], .priority = get16(at + 12)};
    *body += whole;
    *len -= whole;
    return 1;
}

int of_read_meter(const uint8_t *body, size_t len, struct of_meter_config *ret)
{
    size_t whole = len < METER_CONFIG ? 0 : get16(body);

    if (whole < METER_CONFIG || whole > len) {
        return -EBADMSG;
    }
    if (whole - METER_CONFIG > sizeof(ret->bands)) {
        return -ENOSPC;
    }
    ret->flags = get16(body + 2);
    ret->len = (uint16_t)(whole - METER_CONFIG);
    memcpy(ret->bands, body + METER_CONFIG, ret->len);
    return 0;
}

bool of_is_committed(const struct of_message *message)
{
    return message->type == OF_BUNDLE_CONTROL && message->len >= 16 &&
           get16(message->data + 12) == OF_BUNDLE_COMMIT + 1;
}
