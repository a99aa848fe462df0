package spiffe_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/identity/spiffe"
	"sallyport.dev/sallyport/intercept/identity/spiretest"
	"sallyport.dev/sallyport/intercept/privsep"
)

// The daemon as it is: an unprivileged user without groups, no capability, not
// dumpable, with its list of system calls, and the loader's proof over the line.
// SPIRE knows it by its user, and its sockets are of its group.
func TestConfined(t *testing.T) {
	s := spiretest.Start(t, spiretest.Options{Group: daemonUID})
	s.Register(spiretest.Entry{Path: "/sallyport", Selectors: []string{"unix:uid:65532"}})
	s.Register(spiretest.Entry{Path: "/agent", Selectors: []string{"unix:uid:65534", "unix:path:/usr/bin/sleep"}})
	peer := peerOf(t, agent(t, uidA))
	for name, c := range map[string]spiffe.Config{
		"broker":    {Agent: "unix://" + s.Workload, Broker: "unix://" + s.Broker},
		"delegated": {Agent: "unix://" + s.Workload, Admin: "unix://" + s.Admin},
	} {
		t.Run(name, func(t *testing.T) {
			child, out := confined(t, s.Dir, c, peer, "")
			said, err := io.ReadAll(out)
			if werr := child.Wait(); err != nil || werr != nil || strings.TrimSpace(string(said)) != "spiffe://one.test/agent "+name {
				t.Fatalf("%v %v: %s", err, werr, said)
			}
		})
	}
}

// confined starts the daemon, which binds one connection and tells as whom.
// hold: and when it has ended.
func confined(t *testing.T, dir string, c spiffe.Config, peer intercept.Peer, hold string) (*privsep.Child, io.Reader) {
	t.Helper()
	record, err := json.Marshal(peer)
	if err != nil {
		t.Fatal(err)
	}
	// The user of the daemon can't reach what go test has built.
	self := dir + "/daemon"
	b, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(self, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[0]) })
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	child, err := privsep.Start(privsep.Options{
		Path: self, Args: []string{"daemon"}, UID: daemonUID, GID: daemonUID, Stdout: w, Stderr: os.Stderr, Prover: newProver(t, dir),
		// The connection, and the kernel's record of it.
		Files:  []*os.File{os.NewFile(uintptr(fds[1]), "accepted")},
		Record: func(int) (intercept.Peer, error) { return peer, nil },
		Env:    []string{"SPIFFE_TEST_DAEMON=" + string(record), "AGENT=" + c.Agent, "ADMIN=" + c.Admin, "BROKER=" + c.Broker, "HOLD=" + hold},
	})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return child, r
}

// daemon is the test program as the daemon.
func daemon() int {
	line, err := privsep.Dial()
	if err == nil {
		err = privsep.Confine()
	}
	if err == nil {
		err = bindOnce(line)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func bindOnce(line *privsep.Client) error {
	var peer intercept.Peer
	if err := json.Unmarshal([]byte(os.Getenv("SPIFFE_TEST_DAEMON")), &peer); err != nil {
		return err
	}
	files, err := privsep.Inherited(1)
	if err != nil {
		return err
	}
	conn, err := net.FileConn(files[0])
	if err != nil {
		return err
	}
	peer.Socket = conn.(*net.UnixConn)
	a, err := spiffe.Open(spiffe.Config{Agent: os.Getenv("AGENT"), Admin: os.Getenv("ADMIN"), Broker: os.Getenv("BROKER")})
	if err != nil {
		return err
	}
	defer a.Close()
	for end := time.Now().Add(soon); ; time.Sleep(50 * time.Millisecond) {
		l, err := a.Bind(context.Background(), spiffe.Connection{Peer: &peer, Workload: "a", Prove: func(ctx context.Context) error {
			_, err := line.Prove(ctx, &peer)
			return err
		}})
		switch {
		case err == nil:
			is := l.Identity()
			if _, err := l.JWT(context.Background(), "db.test"); err != nil {
				return err
			}
			fmt.Println(is.ID, is.Via)
			if os.Getenv("HOLD") != "" {
				<-l.Done()
				fmt.Println(l.Err())
			}
			return nil
		case time.Now().After(end):
			return err
		}
	}
}
