package doors_test

import (
	"fmt"
	"os"
	"path/filepath"

	"sallyport.dev/sallyport/cmd/internal/doors"
)

var byName = append(spellings(func(d *door, name, how string) *door {
	return d.named(name, how).since(doors.Passes, byNaming)
}),
	does("", func(a *attempt) {
		a.handOver(outsideTo("unix:"+a.w.socketPath()), words("socket=unix connect"), place{target: home}, words("send"))
	}).named("unix, connected outside", "SCM_RIGHTS; used inside").
		since(doors.Passes, onlyHost+" from kernel 6.7 on").
		since(doors.Redirected, byName67),
	steps("abstract:"+abstract, words("socket=unix connect send")...).
		named("abstract unix socket", "connect to a name that is in no folder").
		since(doors.Redirected, byName67).
		since(doors.Passes, "out of scope: the kernel has no hook for unix sockets before 6.7; have the server listen at no abstract name"),
	steps("abstract:"+datagram, words("socket=unix-datagram sendto")...).
		named("abstract unix socket, datagram", "the same for a server that takes datagrams, without connecting").
		since(doors.Refused, byDatagram).
		since(doors.Passes, "out of scope: the kernel has no hook for unix sockets before 6.7; have the server listen at no abstract name"),
	steps("vsock:1:5432", words("socket=vsock connect send")...).
		named("AF_VSOCK", "connect to the host's own context id").
		since(doors.Passes, "out of scope: the hooks are of inet and unix sockets; forbid the family by seccomp, `sallyport doctor` says how").
		since(doors.Unverified, "this kernel has no vsock loopback to try it on"),
)

// With an allow-list it does not matter how a name is written.
var byAllowance = append(spellings(func(d *door, name, how string) *door {
	d.listed = true
	return d.named(name+", allow-list", how).since(doors.Refused, byList)
}),
	spelled(func(a *attempt, path string) (string, []string) {
		return filepath.Join(a.w.dir, "allowed") + "/../server/" + filepath.Base(path), nil
	}).list().named("unix path, .. below a listed folder, allow-list", "connect to a path that begins as a listed folder and leads out of it").
		since(doors.Refused, "no name with .. is taken for one below a folder"),
	spelled(func(a *attempt, path string) (string, []string) {
		link := filepath.Join(a.w.dir, "allowed", filepath.Base(a.fresh("link")))
		a.fail(os.Symlink(path, link))
		return link, nil
	}).list().named("unix path, link in a listed folder, allow-list", "a symbolic link to the server's socket, where the agent may make one").
		since(doors.Passes, "out of scope: list no folder in which agents can make links"),
)

const (
	byName67 = "the connect_unix hook knows the name"
	noList   = "an allow-list needs kernel 6.7; the permissions of the file are the guarantee"
)

func (d *door) list() *door {
	d.listed = true
	return d
}

func outsideTo(target string) place { return place{cgroup: "outside", target: target} }

// fresh is a name in the folder that agents may write to.
func (a *attempt) fresh(kind string) string {
	return filepath.Join(a.w.dir, fmt.Sprintf("%s-%d", kind, wires.Add(1)))
}

// spellings are the ways to write the path of the server's socket. name gives
// each what the document says of it.
func spellings(name func(d *door, title, how string) *door) []*door {
	return []*door{
		name(spelled(func(a *attempt, path string) (string, []string) { return path, nil }),
			"unix path", "connect to the server's socket by its path").
			since(doors.Redirected, byName67).since(doors.Passes, beforeUnix),
		name(spelled(func(a *attempt, path string) (string, []string) {
			return filepath.Base(path), []string{"chdir=" + filepath.Dir(path)}
		}), "unix path, relative", "the same from its folder"),
		name(spelled(func(a *attempt, path string) (string, []string) {
			return filepath.Dir(path) + "/./" + filepath.Base(path), nil
		}), "unix path, ./", "the same with a dot in it"),
		name(spelled(func(a *attempt, path string) (string, []string) { return "/proc/self/root" + path, nil }),
			"unix path, /proc/self/root", "the same through /proc"),
		name(spelled(func(a *attempt, path string) (string, []string) {
			link := a.fresh("symlink")
			a.fail(os.Symlink(path, link))
			return link, nil
		}), "unix path, symbolic link", "the same by a link to it"),
		name(spelled(func(a *attempt, path string) (string, []string) {
			link := a.fresh("link")
			a.fail(os.Link(path, link))
			return link, nil
		}), "unix path, hard link", "the same by another name of it"),
		name(spelled(func(a *attempt, path string) (string, []string) {
			at := a.fresh("mount")
			a.fail(os.WriteFile(at, nil, 0o666))
			return at, []string{"unshare-mounts", "mount=" + path + "," + at}
		}), "unix path, bind mount", "the same, mounted elsewhere in a mount namespace of its own"),
	}
}
