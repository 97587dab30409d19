import Clibbpf
import Glibc

/// What the running kernel can do, asked of its type information rather than of its version number.
public enum KernelBTF {
    /// Whether the kernel has a function of this name (a kfunc, for instance). Takes some 50 ms: ask once.
    public static func hasFunction(_ name: String) throws(BPFError) -> Bool {
        LibbpfLog.clear()
        guard let types = btf__load_vmlinux_btf() else {
            throw BPFError.latest(
                "read the kernel's types of", "/sys/kernel/btf/vmlinux",
                remedy: "a kernel with CONFIG_DEBUG_INFO_BTF is needed"
            )
        }
        defer { btf__free(types) }
        return baton_btf_has_function(types, name) == 1
    }
}
