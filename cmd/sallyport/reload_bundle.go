package main

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/policy/rules"
)

// bundle is what the loader reads for the daemon, so that configuration,
// policy and secrets need be readable by root only. It travels in a sealed
// memory file: one state of all files, which nobody can change.
type bundle struct {
	Path        string // of the configuration
	Config      []byte
	Policy      []rules.File
	Passwords   map[string][]byte // by password_file, or secret_file of an issuer
	TLS         map[string][]byte // files of resources[].tls, by their names
	Secrets     map[string][]byte // files of accounts, by their names
	MaskingKey  []byte            // file of masking.key_file; nil where none is configured
	SubjectKey  []byte            // file of evidence.subject_key_file; nil where none is configured
	SAML        map[string][]byte // files of identity.saml, by their names
	Credentials []byte            // evidence.nats.credentials
	RecorderKey ed25519.PublicKey // nil where none is configured
	Recipients  []byte            // evidence.transcripts.recipients_file; nil where none is configured
}

// Limits of what is read, in bytes.
const (
	maxSecret = 1 << 20 // a CA file holds many certificates
	maxPolicy = 16 << 20
	maxBundle = 64 << 20
)

// gather reads all that a configuration names. Errors name the line that does.
func gather(cfg *config.Config) (*bundle, error) {
	b := &bundle{Path: cfg.Path, Config: cfg.Text, Passwords: map[string][]byte{}}
	var errs []error
	fail := func(err error, keys ...any) { errs = append(errs, fmt.Errorf("%s: %w", cfg.At(keys...), err)) }
	var err error
	if b.Policy, err = readPolicy(cfg.Policy); err != nil {
		fail(fmt.Errorf("policy: %w", err), "policy")
	}
	if b.TLS, err = readTLS(cfg); err != nil {
		errs = append(errs, err)
	}
	if b.Secrets, err = readSecrets(cfg); err != nil {
		errs = append(errs, err)
	}
	for _, k := range []struct {
		file *config.SecretFile
		into *[]byte
	}{{cfg.MaskingKey(), &b.MaskingKey}, {cfg.SubjectKey(), &b.SubjectKey}} {
		if k.file == nil {
			continue
		}
		path, err := k.file.Where(os.Getenv)
		if err == nil {
			*k.into, err = readFile(path, maxSecret)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", k.file.At, err))
		}
	}
	for i, r := range cfg.Resources {
		if r.Catalog == nil || r.Catalog.PasswordFile == "" {
			continue
		}
		file := r.Catalog.PasswordFile
		if b.Passwords[file], err = readFile(file, maxSecret); err != nil {
			fail(err, "resources", i, "catalog", "password_file")
		}
	}
	for i, is := range cfg.Identity.Issuers {
		if is.Exchange == nil {
			continue
		}
		file := is.Exchange.SecretFile
		if b.Passwords[file], err = readFile(file, maxSecret); err == nil && len(trimNewline(b.Passwords[file])) == 0 {
			err = fmt.Errorf("%s: is empty", file)
		}
		if err != nil {
			fail(err, "identity", "issuers", i, "exchange", "secret_file")
		}
	}
	if b.SAML, err = readSAML(cfg); err != nil {
		errs = append(errs, err)
	}
	if file := cfg.Evidence.NATS.Credentials; file != "" {
		if b.Credentials, err = readFile(file, maxSecret); err != nil {
			fail(err, "evidence", "nats", "credentials")
		}
	}
	if file := cfg.Evidence.Recorder; file != "" {
		if b.RecorderKey, err = jetstream.ReadPublicKey(file); err != nil {
			fail(err, "evidence", "recorder_key")
		}
	}
	if b.Recipients, err = readRecipients(cfg); err != nil {
		fail(err, "evidence", "transcripts", "recipients_file")
	}
	return b, errors.Join(errs...)
}

// wipeKeys clears the keys of masks and subjects.
func (b *bundle) wipeKeys() {
	clear(b.MaskingKey)
	clear(b.SubjectKey)
}

// readPolicy reads a file, or those of a folder that rules.Load would take.
func readPolicy(path string) ([]rules.File, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	names := []string{path}
	if fi.IsDir() {
		if names, err = policyFolder(path); err != nil {
			return nil, err
		}
	}
	var all []rules.File
	total := 0
	for _, n := range names {
		data, err := readFile(n, maxPolicy)
		if err != nil {
			return nil, err
		}
		if total += len(data); total > maxPolicy {
			return nil, fmt.Errorf("%s: more than %d bytes", path, maxPolicy)
		}
		all = append(all, rules.File{Name: n, Data: data})
	}
	return all, nil
}

func policyFolder(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		name, ext := e.Name(), filepath.Ext(e.Name())
		switch {
		case strings.HasPrefix(name, "."), strings.HasSuffix(name, ".test.yaml"):
		case e.IsDir():
			return nil, fmt.Errorf("%s: a folder in a policy folder is not read: move its files up", filepath.Join(path, name))
		case ext == ".yaml" || ext == ".yml":
			names = append(names, filepath.Join(path, name))
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s: no *.yaml files: an empty policy would refuse everything", path)
	}
	return names, nil
}

// readFile reads a regular file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s: more than %d bytes", path, limit)
	}
	return b, err
}

// seal puts the bundle into a memory file that can't be changed any more.
func (b *bundle) seal() (*os.File, error) { return sealed("bundle", b) }

func sealed(name string, v any) (*os.File, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	defer clear(data) // there may be secrets in it
	fd, err := unix.MemfdCreate("sallyport", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memory file: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err = f.Write(data); err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("memory file: %w", err)
	}
	return f, nil
}

// openBundle reads what seal wrote, and closes the descriptor.
func openBundle(fd int) (*bundle, error) {
	f := os.NewFile(uintptr(fd), "bundle")
	defer f.Close()
	// The position is shared with the loader, which stands at the end.
	data, err := io.ReadAll(io.NewSectionReader(f, 0, maxBundle))
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	defer clear(data)
	b := &bundle{}
	if err := json.Unmarshal(data, b); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	return b, nil
}
