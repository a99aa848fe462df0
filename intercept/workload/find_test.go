package workload_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"sallyport.dev/sallyport/intercept/workload"
)

func TestFind(t *testing.T) {
	root := t.TempDir()
	for _, p := range []string{"agents.slice/a.service/inner.service", "agents.slice/b.service", "other.slice/c.service", "agents"} {
		if err := os.MkdirAll(filepath.Join(root, p), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		selector workload.Selector
		want     []string
	}{
		{workload.Selector{Systemd: "agents.slice"}, []string{"/agents.slice"}},
		{workload.Selector{Systemd: "*.service"}, []string{"/agents.slice/a.service", "/agents.slice/b.service", "/other.slice/c.service"}},
		{workload.Selector{Cgroup: "/agents*"}, []string{"/agents", "/agents.slice"}},
		{workload.Selector{Cgroup: "/none"}, nil},
	} {
		found, err := workload.Host{Cgroups: root}.Find([]workload.Selector{c.selector})
		if err != nil {
			t.Errorf("%+v: %v", c.selector, err)
		}
		var got []string
		for _, f := range found {
			got = append(got, f.Path)
			if fi, err := os.Stat(filepath.Join(root, f.Path)); err != nil || f.ID == 0 || fi == nil {
				t.Errorf("%s has id %d, %v", f.Path, f.ID, err)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.selector, got, c.want)
		}
	}
	if _, err := (workload.Host{Cgroups: filepath.Join(root, "gone")}).Find([]workload.Selector{{Cgroup: "/x"}}); err == nil {
		t.Error("no error without a hierarchy")
	}
}
