package main

import (
	"bytes"
	"crypto/x509"
	"errors"
	"path"
	"slices"
	"strings"
)

// keystore is one of a Java runtime's roots.
type keystore struct {
	path   string // with its links followed
	tool   string // keytool, "" where none is
	system bool   // the system's own program keeps it
}

// Where Java runtimes are, and which of their stores are the system's.
var (
	javaFolders = []string{"/usr/lib/jvm", "/usr/lib64/jvm", "/usr/java", "/opt/java", "/opt"}
	javaSystem  = []string{"/etc/ssl/certs/java/", "/etc/pki/", "/etc/ca-certificates/", "/var/lib/ca-certificates/"}
)

// storePassword is the one that every Java runtime's own store is made with; it
// protects nothing.
const storePassword = "changeit"

func (s *stores) keystores() (all []keystore) {
	seen := map[string]bool{}
	for _, dir := range javaFolders {
		for _, name := range s.t.list(dir) {
			home := path.Join(dir, name)
			for _, at := range []string{"lib/security/cacerts", "jre/lib/security/cacerts"} {
				real := s.t.real(path.Join(home, at))
				if real == "" || seen[real] {
					continue
				}
				seen[real] = true
				k := keystore{path: real, tool: s.program("keytool")}
				if t := path.Join(home, "bin/keytool"); s.t.exists(t) {
					k.tool = t
				}
				for _, p := range javaSystem {
					k.system = k.system || strings.HasPrefix(real, p)
				}
				all = append(all, k)
			}
		}
	}
	return all
}

// alias is the name of the certificate in a Java store. Debian's own program has
// its own.
func (s *stores) alias(c *x509.Certificate) string {
	return strings.TrimSuffix(s.anchor(c), ".crt")
}

func (s *stores) keytool(k *keystore, args ...string) []string {
	return append(args, "-keystore", k.path, "-storepass", storePassword)
}

// aliases are those of this host's certificates in a store.
func (s *stores) aliases(k *keystore) (found []string, err error) {
	if k.tool == "" {
		return nil, errors.New("no keytool is there")
	}
	out, err := s.command(nil, k.tool, s.keytool(k, "-list")...)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(out)) {
		name, _, ok := strings.Cut(line, ", ")
		if bare := strings.TrimPrefix(name, "debian:"); ok && s.isAnchor(strings.TrimSuffix(bare, ".pem")+".pem") {
			found = append(found, name)
		}
	}
	return found, nil
}

// java puts the certificates into the stores that the system's program does not
// keep, and takes others of this host's out of all.
func (s *stores) java(wanted certificates) error {
	for _, k := range s.keystores() {
		if k.tool == "" {
			continue // a runtime without its tools: docs/tls.md says what to do
		}
		have, err := s.aliases(&k)
		if err != nil {
			return err
		}
		keep := map[string]bool{}
		for _, c := range wanted {
			alias := s.alias(c)
			keep[alias], keep["debian:"+alias+".pem"] = true, true
			if k.system || slices.Contains(have, alias) {
				continue
			}
			if err := s.run("java", pemOf(c), k.tool, s.keytool(&k, "-importcert", "-noprompt", "-trustcacerts", "-alias", alias)...); err != nil {
				return err
			}
		}
		for _, alias := range have {
			if keep[alias] {
				continue
			}
			if err := s.run("java", nil, k.tool, s.keytool(&k, "-delete", "-alias", alias)...); err != nil {
				return err
			}
		}
	}
	return nil
}

// stateOf tells of a Java store. One in an old form is read as it is, since its
// certificates stand in it in clear.
func (s *stores) stateOf(k *keystore) string {
	if text, err := s.t.read(k.path); err == nil && bytes.Contains(text, s.certs[0].Raw) {
		return installed
	}
	have, err := s.aliases(k)
	switch alias := s.alias(s.certs[0]); {
	case err != nil:
		return unknown
	case slices.Contains(have, alias), slices.Contains(have, "debian:"+alias+".pem"):
		return installed
	case len(have) > 0:
		return outdated
	}
	return absent
}
