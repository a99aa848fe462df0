package stand

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// programs that a Stand runs, and where they are built.
var programs = []struct{ name, module, pkg string }{
	{"sallyport", ".", "./cmd/sallyport"},
	{"sallyport-recorder", ".", "./cmd/sallyport-recorder"},
	{"oidcop", "cmd/internal/oidcop", "."},
}

// Build builds the programs of a Stand from the sources of this package's
// repository into a folder.
func Build(ctx context.Context, into string) error {
	_, here, _, ok := runtime.Caller(0)
	if !ok {
		return errors.New("stand: the sources are not known")
	}
	repo := filepath.Join(filepath.Dir(here), "../../..")
	into, err := filepath.Abs(into)
	if err != nil {
		return err
	}
	for _, p := range programs {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(into, p.name), p.pkg)
		cmd.Dir = filepath.Join(repo, p.module)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go build %s: %w\n%s", p.name, err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}
