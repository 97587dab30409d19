/* libbpf for Swift: the headers, and in inline functions what Swift cannot import. */
#ifndef BATON_CLIBBPF_SHIM_H
#define BATON_CLIBBPF_SHIM_H

#include <errno.h>
#include <stddef.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/magic.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

/* Sizes of libbpf's option structures up to their last field. libbpf refuses what is not zero behind it, and the
 * padding of a Swift value may hold anything. */
#define BATON_OPTIONS_END(type) \
    (offsetof(struct type, type##__last_field) + sizeof(((struct type *)0)->type##__last_field))
enum {
    BATON_OBJECT_OPEN_OPTIONS_BYTES = BATON_OPTIONS_END(bpf_object_open_opts),
    BATON_LINK_CREATE_OPTIONS_BYTES = BATON_OPTIONS_END(bpf_link_create_opts),
    BATON_TEST_RUN_OPTIONS_BYTES = BATON_OPTIONS_END(bpf_test_run_opts),
    BATON_XDP_QUERY_OPTIONS_BYTES = BATON_OPTIONS_END(bpf_xdp_query_opts),
    BATON_TC_HOOK_BYTES = BATON_OPTIONS_END(bpf_tc_hook),
    BATON_TC_OPTIONS_BYTES = BATON_OPTIONS_END(bpf_tc_opts),
};

/* 1 when `path` lies in a BPF file system, 0 when not, -1 with errno when that cannot be told. */
static inline int baton_is_bpffs(const char *_Nonnull path)
{
    struct statfs status;

    if (statfs(path, &status) != 0)
        return -1;
    return (unsigned long)status.f_type == BPF_FS_MAGIC;
}

static inline int baton_mount_bpffs(const char *_Nonnull path)
{
    return mount("bpf", path, "bpf", 0, "mode=0700");
}

/* 1 when there is a function of that name. BTF_KIND_* is both a macro and an enumerator, so ambiguous to Swift. */
static inline int baton_btf_has_function(const struct btf *_Nonnull btf, const char *_Nonnull name)
{
    return btf__find_by_name_kind(btf, name, BTF_KIND_FUNC) > 0;
}

/* Where a variable lies in a data section; null when it is not there. */
static inline const struct btf_var_secinfo *_Nullable baton_btf_section_variable(
    const struct btf *_Nonnull btf, const char *_Nonnull section, const char *_Nonnull name)
{
    int number = btf__find_by_name_kind(btf, section, BTF_KIND_DATASEC);
    const struct btf_type *type = number > 0 ? btf__type_by_id(btf, number) : 0;
    const struct btf_var_secinfo *variable;
    int index;

    if (!type)
        return 0;
    variable = btf_var_secinfos(type);
    for (index = 0; index < btf_vlen(type); index++, variable++) {
        const struct btf_type *description = btf__type_by_id(btf, variable->type);
        const char *found = description ? btf__name_by_offset(btf, description->name_off) : 0;

        if (found && __builtin_strcmp(found, name) == 0)
            return variable;
    }
    return 0;
}

#endif
