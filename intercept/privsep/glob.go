package privsep

import (
	"fmt"
	"strings"

	"sallyport.dev/sallyport/intercept/workload"
)

// compileGlob compiles a pattern over a cgroup path.
func compileGlob(pattern string) (workload.Glob, error) {
	if !strings.HasPrefix(pattern, "/") {
		return workload.Glob{}, fmt.Errorf("cgroup pattern %q: give a path below the cgroup2 root, starting with /", pattern)
	}
	g, err := workload.CompileGlob(pattern)
	if err != nil {
		return g, fmt.Errorf("cgroup %w", err)
	}
	return g, nil
}
