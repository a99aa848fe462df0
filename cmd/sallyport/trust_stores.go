package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"os/user"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sallyport.dev/sallyport/intercept/tlsport"
)

// place is a store that the authority may stand in.
type place struct {
	Store string `json:"store"` // system, file, java, libpq, environment
	Path  string `json:"path"`
	State string `json:"state"` // installed, absent, outdated or unknown
	Note  string `json:"note,omitempty"`
}

// What place.State is.
const (
	installed = "installed"
	absent    = "absent"
	outdated  = "outdated" // another certificate of this host's
	unknown   = "unknown"
)

// change is one that install or uninstall made, or would make.
type change struct {
	Store string `json:"store"`
	Do    string `json:"do"` // write, remove, run
	What  string `json:"what"`
}

// stores are a file system's, and what of this host's authority is to stand in
// them.
type stores struct {
	t       *tree
	host    string
	certs   certificates
	dry     bool
	say     func(change) // told of each change before it is made
	changes []change
}

func newStores(t *tree, host string, cs certificates) *stores {
	return &stores{t: t, host: host, certs: cs}
}

// systemStore is how a distribution keeps its roots.
type systemStore struct {
	program string
	args    []string // for what was added
	removed []string // for what was taken away
	anchors string   // folder for certificates of the administrator's
	bundle  string   // what the program makes of them, in one file
}

// The first whose program and folder are there is the one.
var systemStores = []systemStore{
	{"update-ca-certificates", nil, nil, "/etc/pki/trust/anchors", "/var/lib/ca-certificates/ca-bundle.pem"},                              // SUSE
	{"update-ca-certificates", nil, []string{"--fresh"}, "/usr/local/share/ca-certificates", "/etc/ssl/certs/ca-certificates.crt"},        // Debian, Ubuntu, Alpine
	{"update-ca-trust", []string{"extract"}, []string{"extract"}, "/etc/pki/ca-trust/source/anchors", "/etc/pki/tls/certs/ca-bundle.crt"}, // Fedora, RHEL
	{"update-ca-trust", nil, nil, "/etc/ca-certificates/trust-source/anchors", "/etc/ca-certificates/extracted/tls-ca-bundle.pem"},        // Arch
}

var programFolders = []string{"/usr/sbin", "/usr/bin", "/sbin", "/bin"}

func (s *stores) program(name string) string {
	for _, dir := range programFolders {
		if p := dir + "/" + name; s.t.exists(p) {
			return p
		}
	}
	return ""
}

// system returns the store that is there, nil where none is known.
func (s *stores) system() *systemStore {
	for i := range systemStores {
		if y := &systemStores[i]; s.program(y.program) != "" && s.t.exists(y.anchors) {
			return y
		}
	}
	return nil
}

// anchor is a file's name: another certificate has another, since the programs
// look at names only.
func (s *stores) anchor(c *x509.Certificate) string {
	return fmt.Sprintf("sallyport-%s-%s.crt", s.host, strings.ToLower(strings.ReplaceAll(tlsport.Fingerprint(c)[:11], ":", "")))
}

func (s *stores) isAnchor(name string) bool {
	return regexp.MustCompile(`^sallyport-` + regexp.QuoteMeta(s.host) + `-[0-9a-f]{8}\.(crt|pem)$`).MatchString(name)
}

// file has all certificates, for whatever is told a file's name: sslrootcert,
// NODE_EXTRA_CA_CERTS, --cacert. Its name stays.
func (s *stores) file() string { return "/usr/local/share/sallyport/" + s.host + ".pem" }

func (s *stores) did(store, do, what string) {
	c := change{store, do, what}
	s.changes = append(s.changes, c)
	if s.say != nil {
		s.say(c)
	}
}

func (s *stores) write(store, name string, text []byte, mode uint32) error {
	if have, err := s.t.read(name); err == nil && bytes.Equal(have, text) {
		return nil
	}
	s.did(store, "write", s.t.name(name))
	if s.dry {
		return nil
	}
	_, err := s.t.write(name, text, mode)
	return err
}

func (s *stores) remove(store, name string) error {
	if !s.t.exists(name) {
		return nil
	}
	s.did(store, "remove", s.t.name(name))
	if s.dry {
		return nil
	}
	_, err := s.t.remove(name)
	return err
}

// run runs a program of the tree's, in it.
func (s *stores) run(store string, stdin []byte, program string, args ...string) error {
	s.did(store, "run", strings.Join(append([]string{program}, args...), " "))
	if s.dry {
		return nil
	}
	_, err := s.command(stdin, program, args...)
	return err
}

func (s *stores) command(stdin []byte, program string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = []string{"PATH=" + strings.Join(programFolders, ":"), "LC_ALL=C"}
	if s.t.path != "/" {
		cmd.SysProcAttr, cmd.Dir = &syscall.SysProcAttr{Chroot: s.t.path}, "/"
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(stderr.String() + "\n" + stdout.String())
		return nil, fmt.Errorf("%s: %w: %s", program, err, said[:min(len(said), 1000)])
	}
	return stdout.Bytes(), nil
}

// installSystem puts the certificates among the administrator's, takes others of
// this host's away, and has the store made anew.
func (s *stores) installSystem(wanted certificates) error {
	y := s.system()
	if y == nil {
		if len(wanted) == 0 {
			return nil
		}
		return fmt.Errorf("no store of certificates is known in %s: install the package ca-certificates", s.t.path)
	}
	before := len(s.changes)
	keep := map[string]bool{}
	for _, c := range wanted {
		keep[s.anchor(c)] = true
		if err := s.write("system", path.Join(y.anchors, s.anchor(c)), pemOf(c), 0o644); err != nil {
			return err
		}
	}
	added, removed := len(s.changes) > before, false
	for _, name := range s.t.list(y.anchors) {
		if s.isAnchor(name) && !keep[name] {
			removed = true
			if err := s.remove("system", path.Join(y.anchors, name)); err != nil {
				return err
			}
		}
	}
	have, _ := s.t.read(y.bundle)
	for _, c := range wanted { // somebody made it while they were not there
		added = added || !certificates{c}.in(have)
	}
	switch {
	case removed:
		return s.run("system", nil, s.program(y.program), y.removed...)
	case added:
		return s.run("system", nil, s.program(y.program), y.args...)
	}
	return nil
}

// libpq puts the certificates into a user's root.crt, beside those of others.
func (s *stores) libpq(name string, wanted certificates) error {
	home, err := s.home(name)
	if errors.Is(err, syscall.ENOENT) && len(wanted) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	defer home.Close()
	const file = ".postgresql/root.crt"
	have, err := home.read(file)
	if err != nil && !errors.Is(err, syscall.ENOENT) {
		return err
	}
	in := stores{t: home, dry: s.dry, say: s.say, host: s.host}
	text := append(without(have, s.host), wanted.pem()...)
	switch {
	case len(bytes.TrimSpace(text)) > 0:
		err = in.write("libpq", file, text, 0o644)
	case have != nil:
		err = in.remove("libpq", file)
	}
	s.changes = append(s.changes, in.changes...)
	if err != nil {
		return fmt.Errorf("root.crt of %s: %w", name, err)
	}
	return nil
}

// without returns a PEM text without this host's certificates; what else stands
// in it stays as it is.
func without(text []byte, host string) (rest []byte) {
	for {
		b, after := pem.Decode(text)
		if b == nil {
			if rest = append(rest, text...); len(rest) > 0 && rest[len(rest)-1] != '\n' {
				rest = append(rest, '\n')
			}
			return rest
		}
		block := text[:len(text)-len(after)]
		if c, err := x509.ParseCertificate(b.Bytes); err == nil && own(c, host) {
			block = block[:bytes.LastIndex(block, []byte("-----BEGIN "))]
		}
		rest, text = append(rest, block...), after
	}
}

// home opens a user's folder. It is the user's own: no link in it is followed.
func (s *stores) home(name string) (*tree, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("--user: %w", err)
	}
	uid, err := strconv.Atoi(u.Uid)
	gid, gerr := strconv.Atoi(u.Gid)
	if err = errors.Join(err, gerr); err != nil {
		return nil, fmt.Errorf("--user %s: %w", name, err)
	}
	f, err := s.t.at(u.HomeDir)
	if err != nil {
		return nil, fmt.Errorf("--user %s: home: %w", name, err)
	}
	return &tree{dir: f, path: s.t.name(u.HomeDir), owner: &owner{uid, gid}, noLinks: true}, nil
}

// environments are files that give programs of the host their environment.
var environments = map[string]string{
	"profile": "/etc/profile.d/sallyport-trust.sh",
	"systemd": "/etc/systemd/system.conf.d/sallyport-trust.conf",
}

// variables are for those that do not read the system's store.
func (s *stores) variables() (lines []string) {
	lines = append(lines, "NODE_EXTRA_CA_CERTS="+s.file())
	if y := s.system(); y != nil {
		lines = append(lines, "REQUESTS_CA_BUNDLE="+y.bundle)
	}
	return lines
}

func (s *stores) environment(kind string) error {
	var text strings.Builder
	text.WriteString("# Written by sallyport trust install. Node and Python's requests do not read the\n# system's store of certificates by themselves.\n")
	switch kind {
	case "profile":
		for _, v := range s.variables() {
			fmt.Fprintf(&text, "export %s\n", v)
		}
	case "systemd":
		text.WriteString("[Manager]\n")
		for _, v := range s.variables() {
			fmt.Fprintf(&text, "DefaultEnvironment=%q\n", v)
		}
	}
	return s.write("environment", environments[kind], []byte(text.String()), 0o644)
}

// places tells where the authority stands.
func (s *stores) places() (all []place) {
	if y := s.system(); y != nil {
		have, _ := s.t.read(y.bundle)
		all = append(all, place{"system", s.t.name(y.bundle), s.state(parseAll(have)), ""})
	}
	have, _ := s.t.read(s.file())
	all = append(all, place{"file", s.t.name(s.file()), s.state(parseAll(have)), ""})
	for _, k := range s.keystores() {
		p := place{"java", s.t.name(k.path), s.stateOf(&k), ""}
		if k.system {
			p.Note = "(kept by the system's store)"
		}
		all = append(all, p)
	}
	for _, kind := range slices.Sorted(maps.Keys(environments)) {
		if s.t.exists(environments[kind]) {
			all = append(all, place{"environment", s.t.name(environments[kind]), installed, ""})
		}
	}
	return all
}

func (s *stores) state(have []*x509.Certificate) string {
	state := absent
	for _, c := range have {
		if c.Equal(s.certs[0]) {
			return installed
		}
		if own(c, s.host) {
			state = outdated
		}
	}
	return state
}

func printChange(w io.Writer, c change, dry bool) {
	verb := map[string]string{"write": "wrote", "remove": "removed", "run": "running"}[c.Do]
	if dry {
		verb = "would " + c.Do
	}
	fmt.Fprintf(w, "%-12s %s %s\n", c.Store, verb, c.What)
}
