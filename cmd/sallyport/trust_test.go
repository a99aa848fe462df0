package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport.dev/sallyport/cmd/internal/stand"
	"sallyport.dev/sallyport/intercept/tlsport"
)

// trustHost is a configuration with an authority, and a view of the machine's
// file systems in which everything may be changed: nothing of it reaches the
// machine.
type trustHost struct {
	t      *testing.T
	dir    string
	config string
	pid    int // of who holds the view
}

func newTrustHost(t *testing.T, permitted string) *trustHost {
	t.Helper()
	h := &trustHost{t: t, dir: t.TempDir()}
	if err := os.Chmod(h.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	h.config = filepath.Join(h.dir, "sallyport.yaml")
	h.configure(permitted)
	h.sallyport("trust", "renew", "--yes")
	return h
}

func (h *trustHost) configure(permitted string) {
	h.t.Helper()
	text := fmt.Sprintf(`host: trusthost
state: %[1]s/state
run: %[1]s/run
policy: policy.yaml
resources:
  - {name: db, protocol: postgres, addresses: ["127.0.0.1:5432"], catalog: {user: c}, tls: {names: [db.test]}}
identity:
  issuers: [{url: "https://id.example", audience: a}]
  workloads: [{name: w, match: {uid: 1}, subjects: [s]}]
authority: {enabled: true, permitted: %[2]s}
`, h.dir, permitted)
	if err := os.WriteFile(h.config, []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

// sallyport runs a command that must succeed, in this process.
func (h *trustHost) sallyport(args ...string) string {
	h.t.Helper()
	out, err := command(append(args, "-c", h.config)...)
	if err != nil {
		h.t.Fatalf("%s: %v\n%s", args, err, out)
	}
	return out
}

func (h *trustHost) authority() *tlsport.Authority {
	h.t.Helper()
	a, err := tlsport.LoadAuthority(h.files())
	if err != nil {
		h.t.Fatal(err)
	}
	return a
}

func (h *trustHost) files() (f tlsport.Files) {
	h.t.Helper()
	at := authorityAt(filepath.Join(h.dir, "state"))
	for name, text := range map[string]*[]byte{at.root: &f.Root, at.intermediate: &f.Intermediate, at.key: &f.Key} {
		var err error
		if *text, err = os.ReadFile(name); err != nil {
			h.t.Fatal(err)
		}
	}
	return f
}

// view makes the private view: overlays in a mount namespace of its own.
func (h *trustHost) view() {
	h.t.Helper()
	over := filepath.Join(h.dir, "over")
	if err := os.Mkdir(over, 0o700); err != nil {
		h.t.Fatal(err)
	}
	script := `set -e
mount -t tmpfs none ` + over + `
for d in /etc /usr/local /var/lib /opt /root; do
	mkdir -p ` + over + `$d/u ` + over + `$d/w
	mount -t overlay overlay -o lowerdir=$d,upperdir=` + over + `$d/u,workdir=` + over + `$d/w $d
done
mkdir -p /opt/other/lib/security /opt/other/bin
ln -s /usr/bin/keytool /opt/other/bin/keytool
keytool -genkeypair -keystore /opt/other/lib/security/cacerts -storepass changeit -alias x -dname CN=x -keyalg EC >/dev/null 2>&1
echo ready; read x`
	cmd := exec.Command("unshare", "-m", "sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := stand.Launch(cmd); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	if b := make([]byte, 6); func() bool { _, err := out.Read(b); return err != nil }() || string(b) != "ready\n" {
		h.t.Fatalf("no view: %s", said.String())
	}
	h.pid = cmd.Process.Pid
}

// in runs a command in the view.
func (h *trustHost) in(env []string, args ...string) (string, error) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"-t", strconv.Itoa(h.pid), "-m", "--"}, args...)...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/root", "LC_ALL=C", "SALLYPORT_TEST=1"}, env...)
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (h *trustHost) must(args ...string) string {
	h.t.Helper()
	self, err := os.Executable()
	if err != nil {
		h.t.Fatal(err)
	}
	out, err := h.in(nil, append(append([]string{self}, args...), "-c", h.config)...)
	if err != nil {
		h.t.Fatalf("%s: %v\n%s", args, err, out)
	}
	return out
}

// forged is what somebody who has an authority's files could show as the server of
// a name: unlike Authority.Sign it does not look at what is permitted. "CN=" before
// it puts it where only the subject has it.
func forged(t *testing.T, f tlsport.Files, name string) tls.Certificate {
	t.Helper()
	signer, err := tlsport.ParseKey(f.Key)
	if err != nil {
		t.Fatal(err)
	}
	intermediate, err := tlsport.ParseCertificate(f.Intermediate)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if cn, ok := strings.CutPrefix(name, "CN="); ok {
		c.Subject.CommonName = cn
	} else if ip := net.ParseIP(name); ip != nil {
		c.IPAddresses = []net.IP{ip}
	} else {
		c.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, intermediate, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der, intermediate.Raw}, PrivateKey: key}
}

// serveTLS is an HTTPS server at an address of this host's that says "in" to
// whoever takes its certificate.
func serveTLS(t *testing.T, c tls.Certificate, at string) (port string) {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "in\n") }))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{c}}
	var err error
	s.Listener.Close()
	if s.Listener, err = net.Listen("tcp", net.JoinHostPort(at, "0")); err != nil {
		t.Fatal(err)
	}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	_, port, _ = net.SplitHostPort(s.Listener.Addr().String())
	return port
}

const javaClient = `import java.net.*;
public class Get {
	public static void main(String[] a) throws Exception {
		try (var in = new URL(a[0]).openStream()) { System.out.print(new String(in.readAllBytes())); }
	}
}`

// javac compiles a class into a folder that everybody may read.
func javac(t *testing.T, dir, class, text string) {
	t.Helper()
	file := filepath.Join(dir, class+".java")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("javac", "-d", dir, file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// clients are those of each runtime that ask a server at a name for "/". Their
// environment may name a file of certificates.
func (h *trustHost) clients(name, port, file string) map[string]func() (string, error) {
	url := "https://" + name + ":" + port + "/"
	hosts := filepath.Join(h.dir, "hosts")
	if err := os.WriteFile(hosts, []byte("127.0.0.1 "+name+"\n"), 0o644); err != nil {
		h.t.Fatal(err)
	}
	var extra, bundle []string
	if file != "" {
		extra, bundle = []string{"NODE_EXTRA_CA_CERTS=" + file}, []string{"SSL_CERT_FILE=" + file}
	}
	node := fmt.Sprintf(`require("https").get({host:"127.0.0.1",port:%s,servername:%q,headers:{host:%q}},r=>r.pipe(process.stdout)).on("error",e=>{console.log(e.code);process.exit(1)})`, port, name, name)
	python := fmt.Sprintf(`import ssl,socket
s=ssl.create_default_context().wrap_socket(socket.create_connection(("127.0.0.1",%s)),server_hostname=%q)
s.sendall(b"GET / HTTP/1.0\r\n\r\n")
while d:=s.recv(4096): print(d.decode())`, port, name)
	return map[string]func() (string, error){
		"openssl": func() (string, error) {
			return h.in(bundle, "sh", "-c", "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | openssl s_client -quiet -verify_return_error -verify_hostname "+name+" -servername "+name+" -connect 127.0.0.1:"+port)
		},
		"curl": func() (string, error) {
			return h.in(nil, append([]string{"curl", "-sS", "--resolve", name + ":" + port + ":127.0.0.1", url}, cacert(file)...)...)
		},
		"node":   func() (string, error) { return h.in(extra, "node", "-e", node) },
		"python": func() (string, error) { return h.in(bundle, "/usr/bin/python3", "-c", python) },
		"java": func() (string, error) {
			return h.in(nil, "java", "-Djdk.net.hosts.file="+hosts, "-cp", h.dir, "Get", url)
		},
	}
}

func cacert(file string) []string {
	if file == "" {
		return nil
	}
	return []string{"--cacert", file}
}

// The whole life of an authority in the stores, with the system's own programs
// and each runtime's own clients.
func TestTrustInstall(t *testing.T) {
	h := newTrustHost(t, "[db.test, 127.0.0.1]")
	h.view()
	javac(t, h.dir, "Get", javaClient)
	const file = "/usr/local/share/sallyport/trusthost.pem"
	was, _ := h.in(nil, "sh", "-c", "find /usr/local/share /etc/ssl /etc/profile.d /etc/systemd -type f -o -type l | sort")
	was += h.aliases()
	port := serveTLS(t, forged(t, h.files(), "db.test"), "127.0.0.1")
	expect := func(step, port, file string, want bool, who ...string) {
		t.Helper()
		for name, ask := range h.clients("db.test", port, file) {
			if len(who) > 0 && !strings.Contains(strings.Join(who, " "), name) {
				continue
			}
			out, err := ask()
			if got := err == nil && strings.Contains(out, "in\n"); got != want {
				t.Errorf("%s: %s gets in: %v\n%s", step, name, got, out)
			}
		}
	}
	expect("before", port, "", false)
	if out := h.must("trust", "install", "--dry-run"); !strings.Contains(out, "would write /usr/local/share/ca-certificates/sallyport-trusthost-") || !strings.Contains(out, "would run") {
		t.Errorf("%s", out)
	}
	if out, _ := h.in(nil, "ls", "/usr/local/share/ca-certificates"); strings.Contains(out, "trusthost") {
		t.Error("--dry-run has written")
	}
	if out := h.must("trust", "install", "--java"); !strings.Contains(out, "running /usr/sbin/update-ca-certificates") || !strings.Contains(out, "NODE_EXTRA_CA_CERTS="+file) || strings.Contains(out, "warning") {
		t.Errorf("%s", out)
	}
	expect("installed", port, "", true, "openssl curl python java")
	expect("installed, Node by itself", port, "", false, "node")
	expect("by the file", port, file, true, "openssl curl python node")
	if out := h.must("trust", "show"); strings.Count(out, ": installed") != 4 || !strings.Contains(out, "(kept by the system's store)") {
		t.Errorf("%s", out)
	}
	if out := h.must("trust", "install", "--java", "--json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("again: %s", out)
	}

	// Another authority: both stand in the stores until it is finished with.
	h.sallyport("trust", "renew", "--yes")
	second := serveTLS(t, forged(t, h.files(), "db.test"), "127.0.0.1")
	h.must("trust", "install", "--java", "--environment", "profile,systemd")
	expect("the old one", port, file, true)
	expect("the new one", second, file, true)
	if out, err := h.in(nil, "sh", "-c", ". /etc/profile.d/sallyport-trust.sh && echo $NODE_EXTRA_CA_CERTS && systemd-analyze cat-config systemd/system.conf 2>/dev/null | grep -c '^DefaultEnvironment=\"NODE' || true"); err != nil || !strings.HasPrefix(out, file+"\n") {
		t.Errorf("%v: %s", err, out)
	}
	h.sallyport("trust", "renew", "--finish")
	h.must("trust", "install", "--java")
	expect("the old one at its end", port, file, false)
	expect("the new one later", second, file, true)

	h.must("trust", "uninstall")
	expect("uninstalled", second, "", false)
	is, _ := h.in(nil, "sh", "-c", "find /usr/local/share /etc/ssl /etc/profile.d /etc/systemd -type f -o -type l | sort")
	is += h.aliases()
	for line := range strings.Lines(is) {
		if !strings.Contains(was, line) {
			t.Errorf("left: %s", line)
		}
	}
	for line := range strings.Lines(was) {
		if !strings.Contains(is, line) {
			t.Errorf("gone: %s", line)
		}
	}
	if out := h.must("trust", "uninstall"); !strings.Contains(out, "nothing to do") {
		t.Errorf("again: %s", out)
	}
}

// aliases are this host's certificates in the Java stores.
func (h *trustHost) aliases() (found string) {
	for _, store := range []string{"/etc/ssl/certs/java/cacerts", "/opt/other/lib/security/cacerts"} {
		out, err := h.in(nil, "keytool", "-list", "-storepass", "changeit", "-keystore", store)
		if err != nil {
			h.t.Fatalf("%s: %v\n%s", store, err, out)
		}
		for line := range strings.Lines(out) {
			if strings.Contains(line, "sallyport") {
				found += store + " " + line
			}
		}
	}
	return found
}

// Whoever had the authority's key could not be somebody else with it: each runtime
// refuses a name or an address that its certificates do not permit, Java too.
func TestTrustIsLimited(t *testing.T) {
	t.Run("of one family", func(t *testing.T) {
		trustIsLimited(t, "[db.test, 127.0.0.1]", map[string]bool{"db.test": true, "bank.test": false, "CN=bank.test": false, "127.0.0.1": true, "127.0.0.2": false, "::1": false})
	})
	t.Run("of both", func(t *testing.T) {
		trustIsLimited(t, `["::/0", db.test, 127.0.0.1]`, map[string]bool{"127.0.0.1": true, "127.0.0.2": false, "::1": true})
	})
}

// javaRefuses reports whether Java says that constraints are why. It fails in its
// comparison of an IPv4 address with some constraints of IPv6.
func javaRefuses(out string) bool {
	return strings.Contains(out, "name constraints check failed") || strings.Contains(out, "IPAddressName.constrains")
}

func trustIsLimited(t *testing.T, permitted string, cases map[string]bool) {
	h := newTrustHost(t, permitted)
	h.view()
	h.must("trust", "install", "--java")
	javac(t, h.dir, "Get", javaClient)
	f := h.files()
	roots := x509.NewCertPool()
	roots.AddCert(h.authority().Root())
	for name, want := range cases {
		c, at := forged(t, f, name), "127.0.0.1"
		if net.ParseIP(name) != nil {
			at = name
		}
		port := serveTLS(t, c, at)
		name = strings.TrimPrefix(name, "CN=")
		conn, err := tls.Dial("tcp", net.JoinHostPort(at, port), &tls.Config{RootCAs: roots, ServerName: name})
		if err == nil {
			conn.Close()
		}
		if (err == nil) != want {
			t.Errorf("Go, %s: %v", name, err)
		}
		file := filepath.Join(h.dir, "chain.pem")
		if err := os.WriteFile(file, pemChain(c.Certificate), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := h.in(nil, "openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-untrusted", file, file); (err == nil) != want || !want && !strings.Contains(out, "permitted subtree violation") {
			t.Errorf("openssl verify, %s: %v\n%s", name, err, out)
		}
		if net.ParseIP(name) != nil {
			// The other clients are asked by name.
			out, err := h.in(nil, "java", "-cp", h.dir, "Get", "https://"+net.JoinHostPort(name, port)+"/")
			if got := err == nil && strings.Contains(out, "in\n"); got != want || !want && !javaRefuses(out) {
				t.Errorf("java, %s gets in: %v\n%s", name, got, out)
			}
			continue
		}
		for who, ask := range h.clients(name, port, "/usr/local/share/sallyport/trusthost.pem") {
			out, err := ask()
			if got := err == nil && strings.Contains(out, "in\n"); got != want || who == "java" && !want && !javaRefuses(out) {
				t.Errorf("%s, %s gets in: %v\n%s", who, name, got, out)
			}
		}
	}
}

// A user's root.crt keeps what others have put there, and is the user's.
func TestTrustUser(t *testing.T) {
	h := newTrustHost(t, "[db.test, 127.0.0.1]")
	h.view()
	home := filepath.Join(h.dir, "home")
	if out, err := h.in(nil, "sh", "-c", fmt.Sprintf("echo 'truster:x:64140:64140::%s:/bin/sh' >>/etc/passwd && mkdir %[1]s && chown 64140:64140 %[1]s", home)); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	root := filepath.Join(home, ".postgresql/root.crt")
	h.must("trust", "install", "--user", "truster")
	var st syscall.Stat_t
	if err := syscall.Stat(root, &st); err != nil || st.Uid != 64140 || st.Gid != 64140 {
		t.Errorf("%+v, %v", st, err)
	}
	another, err := tlsport.NewAuthority("another", tlsport.Permitted{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	other := pemOf(another.Root())
	if err := os.WriteFile(root, other, 0o644); err != nil {
		t.Fatal(err)
	}
	h.must("trust", "install", "--user", "truster")
	if b, _ := os.ReadFile(root); len(parseAll(b)) != 2 || !bytes.Contains(b, other) {
		t.Errorf("%s", b)
	}
	h.must("trust", "uninstall", "--user", "truster")
	if b, _ := os.ReadFile(root); !bytes.Equal(b, other) {
		t.Errorf("%s", b)
	}
	// What a user puts in the way leads nowhere else.
	elsewhere := filepath.Join(h.dir, "elsewhere")
	if err := os.Mkdir(elsewhere, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Dir(root)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, filepath.Dir(root)); err != nil {
		t.Fatal(err)
	}
	self, _ := os.Executable()
	if out, err := h.in(nil, self, "trust", "install", "--user", "truster", "-c", h.config); err == nil {
		t.Errorf("a link is followed: %s", out)
	}
	if left, _ := os.ReadDir(elsewhere); len(left) > 0 {
		t.Errorf("written to %v", left)
	}
}

// What show says, and when it fails.
func TestTrustShow(t *testing.T) {
	h := newTrustHost(t, "[db.test, 127.0.0.1]")
	var rep trustReport
	if err := json.Unmarshal([]byte(h.sallyport("trust", "show", "--json", "--root", h.dir)), &rep); err != nil {
		t.Fatal(err)
	}
	c := h.authority().Root()
	if rep.Fingerprint != tlsport.Fingerprint(c) || rep.DaysLeft < 1000 || len(rep.Missing) > 0 || rep.Names[0] != "db.test" || rep.Addresses[0] != "127.0.0.1/32" {
		t.Errorf("%+v", rep)
	}
	if out := h.sallyport("trust", "show", "--pem", "--root", h.dir); !certificates(parseAll([]byte(out))).in(pemOf(c)) {
		t.Errorf("%s", out)
	}
	// What a configuration brings later is not permitted.
	text, _ := os.ReadFile(h.config)
	if err := os.WriteFile(h.config, bytes.Replace(text, []byte("names: [db.test]"), []byte("names: [db.test, later.test]"), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := command("trust", "show", "-c", h.config, "--root", h.dir); err == nil || !strings.Contains(err.Error(), "later.test") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := command("trust", "renew", "-c", h.config); err == nil || !strings.Contains(err.Error(), "leaves out") {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := command("trust", "renew", "--finish", "-c", h.config); err == nil {
		t.Error("finished with nothing")
	}
	// One that is good for long is not replaced by accident, and its key is gone once it is.
	if err := os.WriteFile(h.config, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := command("trust", "renew", "-c", h.config); err == nil || !strings.Contains(err.Error(), "good until") {
		t.Error(err)
	}
	h.sallyport("trust", "renew", "--yes")
	again := h.authority().Root()
	if c.Equal(again) || c.PublicKey.(*ecdsa.PublicKey).Equal(again.PublicKey) {
		t.Error("the authority is the old one")
	}
	if out := h.sallyport("trust", "show", "--root", h.dir); !strings.Contains(out, "before       "+tlsport.Fingerprint(c)) {
		t.Errorf("%s", out)
	}
	key := authorityAt(filepath.Join(h.dir, "state")).key
	if fi, err := os.Stat(key); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi, err)
	}
}

// Flags are completed, and what they can't be is told.
func TestTrustUsage(t *testing.T) {
	for args, want := range map[string]string{
		"trust instal": "did you mean", "trust install --environment bash": "must be profile or systemd", "trust probe x": "no process id",
		"trust show --pem --json": "none of the others", "trust install --root /tmp --user a": "this machine's users", "trust install --root /nowhere -c " + newTrustHost(t, "[db.test, 127.0.0.1]").config: "--root",
	} {
		if _, err := command(strings.Fields(args)...); err == nil || exitCode(err) != 2 || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %d, %v", args, exitCode(err), err)
		}
	}
	for args, want := range map[string]string{
		"trust ": "install\n|probe\n|renew\n|show\n|uninstall\n", "trust install --environment ": "profile\n|systemd\n", "trust renew --": "--finish|--yes",
	} {
		out, err := command(append([]string{"__completeNoDesc"}, strings.Split(args, " ")...)...)
		for _, w := range strings.Split(want, "|") {
			if err != nil || !strings.Contains(out, w) {
				t.Errorf("%q: %v, %q lacks %q", args, err, out, w)
			}
		}
	}
}

func pemChain(chain [][]byte) (text []byte) {
	for _, der := range chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return text
}
