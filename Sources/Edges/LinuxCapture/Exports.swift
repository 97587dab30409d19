// Whoever calls this edge meets its errors and its clock; one import is enough.
@_exported import LinuxBase
