/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The words for what a switch refuses. Source: OpenFlow Switch Specification 1.4.0, section 7.5.4
 * (types, codes); the names, and what is meant by them, are ovs-vswitchd's.
 */
#include "ovs/openflow-internal.h"

enum {
    BAD_REQUEST = 1,
    BAD_ACTION = 2,
    BAD_INSTRUCTION = 3,
    BAD_MATCH = 4,
    FLOW_MOD_FAILED = 5,
    METER_MOD_FAILED = OF_ERROR_METER_MOD_FAILED,
    BUNDLE_FAILED = 17
};

static const struct {
    uint16_t type, code;
    const char *name, *words;
} errors[] = {
    {BAD_REQUEST, 1, "OFPBRC_BAD_TYPE", "the switch does not know this message"},
    {BAD_REQUEST, 2, "OFPBRC_BAD_STAT", "the switch does not know this request"},
    {BAD_REQUEST, 5, "OFPBRC_EPERM", "not permitted"},
    {BAD_REQUEST, 6, "OFPBRC_BAD_LEN", "the message's length is wrong"},
    {BAD_REQUEST, 9, "OFPBRC_BAD_TABLE_ID", "there is no such table"},
    {BAD_REQUEST, 10, "OFPBRC_IS_SECONDARY", "the connection may only read"},
    {BAD_ACTION, 4, "OFPBAC_BAD_OUT_PORT", "there can be no such output port"},
    {BAD_ACTION, 5, "OFPBAC_BAD_ARGUMENT", "an action's argument is wrong"},
    {BAD_ACTION, 7, "OFPBAC_TOO_MANY", "too many actions"},
    {BAD_INSTRUCTION, 0, "OFPBIC_UNKNOWN_INST", "the switch does not know an instruction"},
    {BAD_INSTRUCTION, 1, "OFPBIC_UNSUP_INST", "the switch does not support an instruction"},
    {BAD_INSTRUCTION, 2, "OFPBIC_BAD_TABLE_ID",
     "the table to go to must be there, and come after the flow's own"},
    {BAD_MATCH, 6, "OFPBMC_BAD_FIELD", "the switch does not know a field"},
    {BAD_MATCH, 7, "OFPBMC_BAD_VALUE", "a field cannot have this value"},
    {BAD_MATCH, 8, "OFPBMC_BAD_MASK", "a field cannot have this mask"},
    {BAD_MATCH, 9, "OFPBMC_BAD_PREREQ",
     "a field needs another one that is not there (eth_type, ip_proto)"},
    {BAD_MATCH, 10, "OFPBMC_DUP_FIELD", "a field is there twice"},
    {BAD_MATCH, 11, "OFPBMC_EPERM", "not permitted"},
    {FLOW_MOD_FAILED, 1, "OFPFMFC_TABLE_FULL", "the flow table is full"},
    {FLOW_MOD_FAILED, 2, "OFPFMFC_BAD_TABLE_ID", "there is no such table"},
    {FLOW_MOD_FAILED, 3, "OFPFMFC_OVERLAP", "it overlaps with another flow"},
    {FLOW_MOD_FAILED, 4, "OFPFMFC_EPERM", "not permitted"},
    {METER_MOD_FAILED, OF_ERROR_METER_EXISTS, "OFPMMFC_METER_EXISTS", "there is such a meter"},
    {METER_MOD_FAILED, 2, "OFPMMFC_INVALID_METER", "there can be, or there is, no such meter"},
    {METER_MOD_FAILED, 3, "OFPMMFC_UNKNOWN_METER", "there is no such meter"},
    {METER_MOD_FAILED, 5, "OFPMMFC_BAD_FLAGS", "the switch does not support a flag"},
    {METER_MOD_FAILED, 6, "OFPMMFC_BAD_RATE", "the switch does not support this rate"},
    {METER_MOD_FAILED, 7, "OFPMMFC_BAD_BURST", "the switch does not support this burst"},
    {METER_MOD_FAILED, 10, "OFPMMFC_OUT_OF_METERS", "the switch has no more meters"},
    {BUNDLE_FAILED, 1, "OFPBFC_EPERM", "not permitted"},
    {BUNDLE_FAILED, 2, "OFPBFC_BAD_ID", "there is no such bundle"},
    {BUNDLE_FAILED, 3, "OFPBFC_BUNDLE_EXIST", "there is such a bundle"},
    {BUNDLE_FAILED, 5, "OFPBFC_OUT_OF_BUNDLES", "the switch has no room for another bundle"},
    {BUNDLE_FAILED, 10, "OFPBFC_MSG_UNSUP", "the message cannot be in a bundle"},
    {BUNDLE_FAILED, 13, "OFPBFC_MSG_FAILED", "a message in the bundle failed"},
    {BUNDLE_FAILED, 14, "OFPBFC_TIMEOUT", "the bundle took too long"},
};

const char *of_error_words(uint16_t type, uint16_t code, char *buf, size_t size)
{
    for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
        if (errors[i].type == type && errors[i].code == code) {
            snprintf(buf, size, "%s (%s)", errors[i].words, errors[i].name);
            return buf;
        }
    }
    snprintf(buf, size, "OpenFlow error, type %u, code %u", type, code);
    return buf;
}
