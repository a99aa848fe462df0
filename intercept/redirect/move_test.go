package redirect_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/redirect"
)

func init() {
	// later ADDRESS: makes a socket, says so, and connects it when told.
	roles["later"] = func(args []string) any {
		drop()
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			return dialled{Errno: err.Error()}
		}
		fmt.Println("made")
		io.Copy(io.Discard, os.Stdin)
		if err := unix.Connect(fd, sockaddr(unix.AF_INET, netip.MustParseAddrPort(args[0]))); err != nil {
			return dialled{Errno: err.Error()}
		}
		return converse(fd, dialled{PID: uint32(os.Getpid())})
	}
}

// A socket made on one side of the cgroup's border and connected on the other.
func TestMovedBetweenSocketAndConnect(t *testing.T) {
	dst := server(t, "127.0.0.1:0")
	open(t, config(t, dst))
	for _, c := range []struct{ name, from, to string }{
		{"joins", "/", guarded},
		{"leaves", guarded, "/"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := start(t, c.from, "later", nil, dst.String())
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			r := bufio.NewReader(out)
			if line, err := r.ReadString('\n'); line != "made\n" {
				t.Fatalf("%q, %v", line, err)
			}
			root, _ := redirect.Host{}.CgroupRoot()
			procs := filepath.Join(root, c.to, "cgroup.procs")
			if err := os.WriteFile(procs, []byte(strconv.Itoa(cmd.Process.Pid)), 0); err != nil {
				t.Fatal(err)
			}
			in.Close()
			var d dialled
			if err := json.NewDecoder(r).Decode(&d); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
			if f, ok := d.facts(); !ok || f.Peer.TGID != d.PID || f.Destination != dst {
				t.Errorf("not turned: %+v", d)
			}
		})
	}
}
