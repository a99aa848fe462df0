package main

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// viewed is a process as /proc shows it: all of it was chosen by the process.
type viewed struct {
	proc, root *tree
	start      uint64 // in ticks since boot
	exe        string
	env        map[string]string // that it was started with
	args       []string
	libs       map[string]string // base name without version -> path
	runtime    string
}

// view opens a process; what was opened stays that process's when its number is
// used again.
func view(pid int) (*viewed, error) {
	proc, err := openTree("/proc/" + strconv.Itoa(pid))
	if err != nil {
		return nil, fmt.Errorf("it has ended: %w", err)
	}
	proc.kernel = true
	v := &viewed{proc: proc, env: map[string]string{}, libs: map[string]string{}}
	fd, err := unix.Openat(int(proc.dir.Fd()), "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		v.close()
		return nil, fmt.Errorf("its root can't be opened (run this as root): %w", err)
	}
	v.root = &tree{dir: os.NewFile(uintptr(fd), "root"), path: "/proc/" + strconv.Itoa(pid) + "/root"}
	environ, err := proc.read("environ")
	if err != nil {
		v.close()
		return nil, fmt.Errorf("its environment can't be read (run this as root): %w", err)
	}
	for e := range strings.SplitSeq(string(environ), "\x00") {
		if name, value, ok := strings.Cut(e, "="); ok {
			v.env[name] = value
		}
	}
	args, _ := proc.read("cmdline")
	v.args = strings.Split(strings.TrimSuffix(string(args), "\x00"), "\x00")
	stat, _ := proc.read("stat")
	if i := bytes.LastIndexByte(stat, ')'); i > 0 {
		if f := strings.Fields(string(stat[i+1:])); len(f) > 19 { // field 22 of all
			v.start, _ = strconv.ParseUint(f[19], 10, 64)
		}
	}
	b := make([]byte, unix.PathMax)
	if n, err := unix.Readlinkat(int(proc.dir.Fd()), "exe", b); err == nil {
		v.exe = string(b[:n])
	}
	maps, _ := proc.read("maps")
	for line := range strings.Lines(string(maps)) {
		if f := strings.Fields(line); len(f) > 5 && strings.HasPrefix(f[5], "/") {
			base, _, _ := strings.Cut(path.Base(f[5]), ".so")
			v.libs[base] = f[5]
		}
	}
	v.runtime = v.kind()
	return v, nil
}

func (v *viewed) close() {
	v.proc.Close()
	if v.root != nil {
		v.root.Close()
	}
}

// kind is what speaks TLS in the process.
func (v *viewed) kind() string {
	base := path.Base(v.exe)
	has := v.loaded
	switch {
	case has("libpq"):
		return "libpq"
	case has("libjvm"):
		return "java"
	case base == "node" || base == "nodejs" || has("libnode"):
		return "node"
	case strings.HasPrefix(base, "python"):
		return "python"
	case has("libssl"):
		return "openssl"
	case has("libgnutls"):
		return "gnutls"
	case len(v.libs) > 0 && !has("libc") && !has("ld"):
		return "static" // Go, as a rule
	}
	return ""
}

// loaded reports whether a library is, also one that a package brings along under
// a name of its own (libpq-1a2b.so).
func (v *viewed) loaded(lib string) bool {
	for l := range v.libs {
		if l == lib || strings.HasPrefix(l, lib+"-") {
			return true
		}
	}
	return false
}

// judgement is what is inferred of a process, and from what.
type judgement struct{ verdict, why string }

// judge infers what the process makes of certificates of the authority.
func (v *viewed) judge(cs certificates, host string) judgement {
	switch v.runtime {
	case "libpq":
		return v.judgeLibpq(cs)
	case "java":
		return v.judgeJava(cs)
	case "node":
		return v.judgeNode(cs)
	case "":
		return judgement{unknown, "no library for TLS is loaded"}
	case "python":
		if f := v.env["REQUESTS_CA_BUNDLE"]; f != "" {
			return v.file(cs, "REQUESTS_CA_BUNDLE", f)
		}
		j := v.general(cs)
		j.why += " (requests and httpx have roots of their own without REQUESTS_CA_BUNDLE or SSL_CERT_FILE)"
		return j
	}
	return v.general(cs)
}

// general is what OpenSSL, GnuTLS and Go do.
func (v *viewed) general(cs certificates) judgement {
	if f := v.env["SSL_CERT_FILE"]; f != "" && v.runtime != "gnutls" {
		return v.file(cs, "SSL_CERT_FILE", f)
	}
	return v.system(cs)
}

// system asks the system's store in the process's own root.
func (v *viewed) system(cs certificates) judgement {
	for _, f := range []string{
		"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/var/lib/ca-certificates/ca-bundle.pem",
		"/etc/ca-certificates/extracted/tls-ca-bundle.pem", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem",
	} {
		if v.root.exists(f) {
			return v.file(cs, "the system's store", f)
		}
	}
	return judgement{refuses, "there is no system's store in its root"}
}

// file judges by a file of certificates that is all that the process trusts.
func (v *viewed) file(cs certificates, what, name string) judgement {
	at := fmt.Sprintf("%s (%s)", what, name)
	if !path.IsAbs(name) {
		return judgement{unknown, at + " is a relative path"}
	}
	text, err := v.root.read(name)
	if err != nil {
		return judgement{unknown, at + " can't be read"}
	}
	have := parseAll(text)
	switch {
	case cs.in(text):
		return judgement{trusts, at + " has the authority"}
	case len(have) == 0:
		return judgement{refuses, at + " has no certificates"}
	}
	for _, c := range have {
		if c.IsCA {
			return judgement{refuses, at + " does not have the authority"}
		}
	}
	return judgement{pins, at + " has servers' own certificates only"}
}

func (v *viewed) home(name string) string {
	if h := v.env["HOME"]; h != "" {
		return path.Join(h, name)
	}
	return path.Join("/root", name)
}

// pgCertificate is a client certificate that libpq or pgjdbc would show.
func (v *viewed) pgCertificate() (judgement, bool) {
	if f := v.env["PGSSLCERT"]; f != "" {
		return judgement{clientCert, "PGSSLCERT (" + f + ")"}, true
	}
	if f := v.home(".postgresql/postgresql.crt"); v.root.exists(f) {
		return judgement{clientCert, f}, true
	}
	return judgement{}, false
}

func (v *viewed) judgeLibpq(cs certificates) judgement {
	const orElse = ", unless its connection string says otherwise"
	if j, ok := v.pgCertificate(); ok {
		return j
	}
	mode := v.env["PGSSLMODE"]
	if mode == "" {
		mode = "prefer"
	}
	root := v.env["PGSSLROOTCERT"]
	if root == "system" {
		j := v.general(cs)
		j.why += orElse
		return j
	}
	if file := v.home(".postgresql/root.crt"); root == "" && v.root.exists(file) {
		root = file
	}
	verifies := strings.HasPrefix(mode, "verify-") || mode == "require" && root != ""
	switch {
	case !verifies && (root == "" || mode == "disable"):
		return judgement{trusts, "libpq verifies nothing with sslmode " + mode + orElse}
	case root == "":
		return judgement{refuses, "libpq has no root.crt to verify with (sslmode " + mode + ")" + orElse}
	}
	j := v.file(cs, "libpq's roots", root)
	if j.why += orElse; !verifies {
		j.why += "; with sslmode " + mode + " it goes on in clear or unverified"
	}
	return j
}

func (v *viewed) judgeNode(cs certificates) judgement {
	options := append(strings.Fields(v.env["NODE_OPTIONS"]), v.args...)
	system := v.env["NODE_USE_SYSTEM_CA"] == "1" || slices.Contains(options, "--use-system-ca")
	switch {
	case v.env["NODE_TLS_REJECT_UNAUTHORIZED"] == "0":
		return judgement{trusts, "NODE_TLS_REJECT_UNAUTHORIZED=0: it verifies nothing"}
	case v.env["NODE_EXTRA_CA_CERTS"] != "":
		if j := v.file(cs, "NODE_EXTRA_CA_CERTS", v.env["NODE_EXTRA_CA_CERTS"]); j.verdict == trusts || !system {
			if j.verdict == pins { // they are added to Node's own
				j.verdict = refuses
			}
			return j
		}
		return v.system(cs)
	case slices.Contains(options, "--use-openssl-ca"):
		return v.general(cs)
	case system:
		return v.system(cs)
	}
	return judgement{refuses, "Node has roots of its own, and no NODE_EXTRA_CA_CERTS"}
}

// javaOption returns the value of a system property, by the variables that Java
// reads and its arguments.
func (v *viewed) javaOption(name string) (value string) {
	all := append(strings.Fields(v.env["JAVA_TOOL_OPTIONS"]), strings.Fields(v.env["JDK_JAVA_OPTIONS"])...)
	for _, o := range append(all, v.args...) {
		if s, ok := strings.CutPrefix(o, "-D"+name+"="); ok {
			value = s
		}
	}
	return value
}

func (v *viewed) judgeJava(cs certificates) judgement {
	if f := v.javaOption("javax.net.ssl.keyStore"); f != "" {
		return judgement{clientCert, "javax.net.ssl.keyStore (" + f + ")"}
	}
	if j, ok := v.pgCertificate(); ok {
		return j
	}
	if f := v.home(".postgresql/root.crt"); v.root.exists(f) {
		return v.file(cs, "pgjdbc's roots", f)
	}
	store := v.javaOption("javax.net.ssl.trustStore")
	if store == "" { // .../lib/server/libjvm.so
		store = path.Join(path.Dir(path.Dir(v.libs["libjvm"])), "security/cacerts")
	}
	text, err := v.root.read(store)
	switch {
	case err != nil:
		return judgement{unknown, "Java's store (" + store + ") can't be read"}
	case bytes.Contains(text, cs[0].Raw):
		return judgement{trusts, "Java's store (" + store + ") has the authority; pgjdbc reads root.crt instead unless sslfactory says otherwise"}
	case bytes.HasPrefix(text, []byte{0xfe, 0xed, 0xfe, 0xed}):
		return judgement{refuses, "Java's store (" + store + ") does not have the authority"}
	}
	return judgement{unknown, "Java's store (" + store + ") is of a form that hides its certificates"}
}
