package privsep_test

import (
	"context"
	"os"
	"os/exec"
	"testing"

	"sallyport.dev/sallyport/intercept/privsep"
)

// What a connection costs the loader.
func BenchmarkProve(b *testing.B) {
	cmd := exec.Command("/bin/sleep", "600")
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	token := b.TempDir() + "/token"
	if err := os.WriteFile(token, make([]byte, 1000), 0o600); err != nil {
		b.Fatal(err)
	}
	p, err := privsep.NewProver(cgroupRoot(b), "", []privsep.Workload{{Name: "w", Match: privsep.Match{Cgroup: "/**"}, TokenFile: token}})
	if err != nil {
		b.Fatal(err)
	}
	peer := peerOf(b, cmd.Process.Pid)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Prove(context.Background(), &peer); err != nil {
			b.Fatal(err)
		}
	}
}
