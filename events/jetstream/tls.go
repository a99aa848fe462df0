package jetstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"iter"
	"os"
	"strings"

	"github.com/nats-io/nats.go"

	"sallyport.dev/sallyport/events/internal/outbound"
	"sallyport.dev/sallyport/internal/lined"
)

// TLS says who vouches for the servers of a NATS, and what a client proves itself
// with there. Versions before 1.2 are refused. The files are read at every
// connection: who renews them restarts nothing.
type TLS struct {
	CA   string `yaml:"ca_file"`   // PEM of who vouches for the servers; "": the system's roots
	Cert string `yaml:"cert_file"` // PEM of the client's certificate, with its chain
	Key  string `yaml:"key_file"`  // PEM, of Cert
}

// Files are the names of its files, by its members.
func (t *TLS) Files() iter.Seq2[string, *string] {
	return func(yield func(string, *string) bool) {
		_ = yield("ca_file", &t.CA) && yield("cert_file", &t.Cert) && yield("key_file", &t.Key)
	}
}

// Mistakes calls bad for each thing that is wrong before a file is opened, with the
// member that is. urls is what Connect is given: settings that a connection in clear
// would pass over are a mistake, since nobody in between could be told from a server
// that offers no TLS.
func (t *TLS) Mistakes(urls string, bad func(why string, at ...any)) {
	if *t == (TLS{}) {
		return
	}
	if (t.Cert == "") != (t.Key == "") {
		bad("cert_file and key_file: a client certificate needs both", "cert_file")
	}
	for u := range strings.SplitSeq(urls, ",") {
		if u = strings.TrimSpace(u); !strings.HasPrefix(u, "tls://") && !strings.HasPrefix(u, "wss://") {
			bad(fmt.Sprintf("ca_file, cert_file and key_file are for TLS, which the address %q does not ask for: write tls://, or wss://", u))
		}
	}
}

// Check calls bad for Mistakes, and for files that can't be used as they are.
func (t *TLS) Check(urls string, bad func(why string, at ...any)) {
	t.Mistakes(urls, bad)
	t.CheckFiles(t.read, bad)
}

// CheckIn is Check of the member nats_tls of a configuration file, in which paths are
// relative to it.
func (t *TLS) CheckIn(f *lined.File, urls string) {
	for _, name := range t.Files() {
		f.Resolve(name)
	}
	t.Check(urls, func(why string, at ...any) { f.Bad(why, append([]any{"nats_tls"}, at...)...) })
}

// CheckFiles calls bad for what is wrong in the files, which read returns.
func (t *TLS) CheckFiles(read func(string) ([]byte, error), bad func(why string, at ...any)) {
	if _, err := t.roots(read); err != nil {
		bad(err.Error(), "ca_file")
	}
	if t.Cert != "" && t.Key != "" {
		if _, err := t.certificate(read); err != nil {
			bad(err.Error(), "cert_file")
		}
	}
}

// Option has a connection go by it.
func (t TLS) Option() nats.Option { return t.OptionOf(t.read) }

// OptionOf is Option with files that somebody else reads.
func (t TLS) OptionOf(read func(name string) ([]byte, error)) nats.Option {
	return func(o *nats.Options) error {
		if t == (TLS{}) {
			return nil
		}
		var wrong []error
		t.Mistakes(strings.Join(o.Servers, ","), func(why string, _ ...any) { wrong = append(wrong, errors.New(why)) })
		if len(wrong) > 0 {
			return errors.Join(wrong...)
		}
		var prove nats.TLSCertHandler
		if t.Cert != "" {
			prove = func() (tls.Certificate, error) { return t.certificate(read) }
		}
		return nats.ClientTLSConfig(prove, func() (*x509.CertPool, error) { return t.roots(read) })(o)
	}
}

// A fileError is about a file of TLS.
type fileError struct{ err error }

func (e *fileError) Error() string { return e.err.Error() }
func (e *fileError) Unwrap() error { return e.err }

// roots are who vouches for servers, nil for those of the system.
func (t *TLS) roots(read func(string) ([]byte, error)) (*x509.CertPool, error) {
	if t.CA == "" {
		return nil, nil
	}
	pem, err := read(t.CA)
	if err != nil {
		return nil, &fileError{fmt.Errorf("ca_file: %w", err)}
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, &fileError{fmt.Errorf("ca_file: %s: holds no certificate (PEM)", t.CA)}
	}
	return pool, nil
}

func (t *TLS) certificate(read func(string) ([]byte, error)) (tls.Certificate, error) {
	cert, err := read(t.Cert)
	if err != nil {
		return tls.Certificate{}, &fileError{fmt.Errorf("cert_file: %w", err)}
	}
	key, err := read(t.Key)
	if err != nil {
		return tls.Certificate{}, &fileError{fmt.Errorf("key_file: %w", err)}
	}
	c, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return c, &fileError{fmt.Errorf("cert_file %s with key_file %s: %w", t.Cert, t.Key, err)}
	}
	return c, nil
}

// KeyFile refuses the file of a private key that anybody may read or write.
func KeyFile(path string) error { return outbound.Private(path) }

// maxFile bounds a file: one of authorities holds many certificates.
const maxFile = 1 << 20

// read reads one of the files; others may not read that of the key.
func (t *TLS) read(name string) ([]byte, error) {
	if name == t.Key {
		if err := KeyFile(name); err != nil {
			return nil, err
		}
	}
	fi, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > maxFile {
		return nil, fmt.Errorf("%s: must be a file of at most %d bytes", name, maxFile)
	}
	return os.ReadFile(name)
}

// untrusted says what to do about TLS that did not come about; nil where TLS was not
// what was in the way.
func untrusted(err error) error {
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		file    *fileError
	)
	remedy := ""
	switch {
	case err == nil:
		return nil
	case errors.As(err, &file):
		return err
	case errors.As(err, &unknown):
		remedy = "nobody who is believed vouches for this server: name the certificate of who does (ca_file, --nats-ca)"
	case errors.As(err, &name):
		remedy = "dial it by a name that its certificate has"
	case errors.Is(err, nats.ErrSecureConnWanted):
		remedy = "this server offers no TLS: have it do so (tls {} in its configuration)"
	case strings.Contains(err.Error(), "tls: certificate required"):
		remedy = "this server asks for a certificate of the client: name one (cert_file and key_file, --nats-cert and --nats-key)"
	case strings.Contains(err.Error(), "remote error: tls: "), errors.Is(err, nats.ErrTLS) && strings.Contains(err.Error(), "after TLS handshake"):
		remedy = "this server does not take the client's certificate, or asks for one (cert_file and key_file, --nats-cert and --nats-key): it must be by an authority that the server knows, and be valid now"
	case errors.Is(err, nats.ErrTLS), strings.Contains(err.Error(), "tls: "):
		return err
	default:
		return nil
	}
	return fmt.Errorf("%w: %s", err, remedy)
}
