package workload

import (
	"slices"
	"strings"
)

// parseUnits reads systemd's layout: slices, then the unit, and below
// user@UID.service the same again for that user's own units. What is below a
// unit is the unit's own business and may have any name.
// https://systemd.io/CGROUP_DELEGATION, cg_path_get_unit of systemd.
func parseUnits(path string) (sl []string, unit string, userSlices []string, userUnit string) {
	names := strings.Split(strings.TrimPrefix(path, "/"), "/")
	sl, unit, names = unitOf(names)
	if strings.HasPrefix(unit, "user@") && strings.HasSuffix(unit, ".service") {
		userSlices, userUnit, _ = unitOf(names)
	}
	return sl, unit, userSlices, userUnit
}

func unitOf(names []string) (sl []string, unit string, rest []string) {
	for len(names) > 0 && isSlice(names[0]) {
		sl = append(sl, unescapeUnit(names[0]))
		names = names[1:]
	}
	if len(names) == 0 || !isUnit(names[0]) {
		return sl, "", names
	}
	return sl, unescapeUnit(names[0]), names[1:]
}

func isSlice(name string) bool { return strings.HasSuffix(name, ".slice") && name != ".slice" }

func isUnit(name string) bool {
	return slices.ContainsFunc(unitKinds, func(k string) bool { return k != ".slice" && strings.HasSuffix(name, k) && name != k })
}

// unescapeUnit undoes the underscore that systemd puts before names that the
// kernel's own files have (cg_escape).
func unescapeUnit(name string) string { return strings.TrimPrefix(name, "_") }

// expandSlice returns the path of a slice: a-b.slice lies in a.slice
// (systemd.slice(5)); ok is false for what is no slice's name.
func expandSlice(slice string) (path string, ok bool) {
	name, found := strings.CutSuffix(slice, ".slice")
	if !found || strings.Contains(name, "/") {
		return "", false
	}
	if name == "-" {
		return "", true
	}
	var b strings.Builder
	prefix := ""
	for _, part := range strings.Split(name, "-") {
		if part == "" {
			return "", false
		}
		prefix += part
		b.WriteString("/" + prefix + ".slice")
		prefix += "-"
	}
	return b.String(), true
}

// expandCgroupsPath turns linux.cgroupsPath of an OCI config into a path below
// the cgroup2 root: "slice:prefix:name" with the systemd driver, a path with
// the cgroupfs driver. A relative path depends on where the runtime ran: "".
// https://github.com/opencontainers/runc/blob/main/docs/systemd.md
func expandCgroupsPath(p string) string {
	if strings.HasPrefix(p, "/") {
		return p
	}
	parts := strings.Split(p, ":")
	if len(parts) != 3 || parts[2] == "" || strings.ContainsAny(parts[1]+parts[2], "/") {
		return ""
	}
	slice, prefix, name := parts[0], parts[1], parts[2]
	if slice == "" {
		slice = "system.slice"
	}
	dir, ok := expandSlice(slice)
	if !ok {
		return ""
	}
	if !strings.HasSuffix(name, ".slice") {
		if prefix != "" {
			name = prefix + "-" + name
		}
		name += ".scope"
	}
	return dir + "/" + name
}
