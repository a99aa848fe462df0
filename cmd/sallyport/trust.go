package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/intercept/tlsport"
)

func init() { commands = append(commands, trustCmd) }

// soon is how long before its end an authority is worth a warning.
const soon = 60 * 24 * time.Hour

func trustCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trust",
		Short: "Have agents trust this host's authority, and see whether they do",
		Long: `Agents that ask for TLS are shown certificates of this host's authority, which
must stand among those that they trust. Its certificates say by critical name
constraints for whom it may vouch: trusting it trusts it for these names only.
docs/tls.md tells what each runtime needs.`,
		Example: `  sallyport trust show
  sallyport trust install --dry-run
  sallyport trust probe`,
	}
	cmd.AddCommand(trustShowCmd(), trustInstallCmd(), trustUninstallCmd(), trustProbeCmd(), trustRenewCmd())
	return cmd
}

// certificates are roots: the authority's own, then those of authorities before
// it that were not finished with.
type certificates []*x509.Certificate

// oldCertificates is the file of those before.
func oldCertificates(cfg *config.Config) string {
	return filepath.Join(authorityAt(cfg.State).folder, "certificate.old.pem")
}

var errNoAuthority = errors.New("this host has no authority: set authority.enabled and start sallyport, which makes one")

// readCertificates fails with errNoAuthority where this host has none yet.
func readCertificates(cfg *config.Config) (certificates, error) {
	name := authorityAt(cfg.State).root
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(text) == 0 {
		return nil, errNoAuthority
	}
	if err != nil {
		return nil, err
	}
	cert, err := tlsport.ParseCertificate(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	all := certificates{cert}
	old, err := os.ReadFile(oldCertificates(cfg))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, c := range parseAll(old) {
		if !c.Equal(cert) {
			all = append(all, c)
		}
	}
	return all, nil
}

// parseAll returns the certificates of a PEM text that can be read.
func parseAll(text []byte) (all []*x509.Certificate) {
	for {
		var b *pem.Block
		if b, text = pem.Decode(text); b == nil {
			return all
		}
		if c, err := x509.ParseCertificate(b.Bytes); b.Type == "CERTIFICATE" && err == nil {
			all = append(all, c)
		}
	}
}

func pemOf(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func (cs certificates) pem() (text []byte) {
	for _, c := range cs {
		text = append(text, pemOf(c)...)
	}
	return text
}

// in reports whether a PEM text holds the first of the certificates.
func (cs certificates) in(text []byte) bool {
	for _, c := range parseAll(text) {
		if c.Equal(cs[0]) {
			return true
		}
	}
	return false
}

// own reports whether a certificate is one of this host's authorities, of
// whatever time.
func own(c *x509.Certificate, host string) bool {
	return c.Subject.CommonName == "sallyport on "+host && strings.Join(c.Subject.Organization, "") == "sallyport"
}

// trustReport is what show tells.
type trustReport struct {
	Subject     string    `json:"subject"`
	Fingerprint string    `json:"fingerprint"` // SHA-256
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
	DaysLeft    int       `json:"days_left"`
	Names       []string  `json:"names"`     // that it permits, those below them included
	Addresses   []string  `json:"addresses"` // prefixes that it permits
	Missing     []string  `json:"missing"`   // of the configuration, that it does not permit
	Older       []string  `json:"older"`     // fingerprints of certificates before this one
	Stands      []place   `json:"stands"`
}

func reportTrust(cfg *config.Config, t *tree, now time.Time) (*trustReport, certificates, error) {
	cs, err := readCertificates(cfg)
	if err != nil {
		return nil, nil, err
	}
	c, p := cs[0], tlsport.PermittedBy(cs[0])
	rep := &trustReport{
		Subject: c.Subject.CommonName, Fingerprint: tlsport.Fingerprint(c), NotBefore: c.NotBefore, NotAfter: c.NotAfter,
		DaysLeft: int(c.NotAfter.Sub(now) / (24 * time.Hour)), Names: append([]string{}, p.Names...), Addresses: []string{},
		Missing: append([]string{}, missingFrom(c, cfg)...), Older: []string{}, Stands: newStores(t, cfg.Host, cs).places(),
	}
	for _, f := range p.Prefixes {
		rep.Addresses = append(rep.Addresses, f.String())
	}
	for _, o := range cs[1:] {
		rep.Older = append(rep.Older, tlsport.Fingerprint(o))
	}
	return rep, cs, nil
}

// missingFrom returns what a configuration's agents dial and the authority may
// not sign for.
func missingFrom(c *x509.Certificate, cfg *config.Config) []string {
	var want tlsport.Permitted
	want.Names, want.Prefixes = cfg.Served()
	return tlsport.PermittedBy(c).Missing(want)
}

func trustShowCmd() *cobra.Command {
	var asJSON, asPEM bool
	var root string
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show this host's authority, what it may vouch for, and where it stands",
		Long: `Show the certificate of this host's authority: fingerprint, life, the names and
addresses that it may vouch for, and in which stores of this host it stands.

Exit code 1 when it has expired or is not whole, or when agents dial names or
addresses that it does not permit.`,
		Example: `  sallyport trust show
  sallyport trust show --pem > sallyport.pem
  sallyport trust show --json | jq .missing`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := commandConfig(cmd)
			if err != nil {
				return err
			}
			t, err := openTree(root)
			if err != nil {
				return configError(fmt.Errorf("--root: %w", err))
			}
			defer t.Close()
			rep, cs, err := reportTrust(cfg, t, time.Now())
			if err != nil {
				return err
			}
			switch out := cmd.OutOrStdout(); {
			case asPEM:
				_, err = out.Write(pemOf(cs[0]))
			case asJSON:
				err = printJSON(out, rep)
			default:
				err = printTrust(out, rep)
			}
			if err != nil {
				return err
			}
			if err := checkAuthority(cfg); err != nil {
				return err
			}
			return rep.problem()
		},
	}
	f := cmd.Flags()
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	f.BoolVar(&asPEM, "pem", false, "print the certificate, for other programs")
	rootFlag(cmd, &root)
	cmd.MarkFlagsMutuallyExclusive("json", "pem")
	return cmd
}

func rootFlag(cmd *cobra.Command, root *string) {
	cmd.Flags().StringVar(root, "root", "/", "root of the file system whose stores are meant, such as an image's")
	_ = cmd.MarkFlagDirname("root")
}

// problem is what an operator must do something about now.
func (r *trustReport) problem() error {
	switch {
	case r.DaysLeft < 0 || time.Now().After(r.NotAfter):
		return &exitError{code: 1, hint: "make another: sallyport trust renew", err: fmt.Errorf("the authority has expired on %s", r.NotAfter.Format(time.DateOnly))}
	case len(r.Missing) > 0:
		return &exitError{
			code: 1, hint: "add them to authority.permitted in sallyport.yaml, and make another authority: sallyport trust renew",
			err: fmt.Errorf("the authority may not vouch for what agents dial: %s", render.Line(strings.Join(r.Missing, ", "))),
		}
	}
	return nil
}

func printTrust(w io.Writer, r *trustReport) error {
	var b strings.Builder
	line := func(k, v string) { fmt.Fprintf(&b, "%-12s %s\n", k, render.Line(v)) }
	line("authority", r.Subject)
	line("SHA-256", r.Fingerprint)
	line("valid", fmt.Sprintf("%s to %s (%d days left)", r.NotBefore.Format(time.DateOnly), r.NotAfter.Format(time.DateOnly), r.DaysLeft))
	if left := time.Until(r.NotAfter); left > 0 && left < soon {
		line("WARNING", "it ends soon: make another with `sallyport trust renew`, while both can stand in the stores")
	}
	line("permits", "names "+dash(strings.Join(r.Names, ", "))+"; addresses "+dash(strings.Join(r.Addresses, ", ")))
	if r.Missing != nil && len(r.Missing) == 0 {
		line("", "all names and addresses of the configuration are among them")
	}
	for _, o := range r.Older {
		line("before", o+" (until sallyport trust renew --finish)")
	}
	for _, p := range r.Stands {
		line("in "+p.Store, strings.TrimSpace(p.Path+": "+p.State+" "+p.Note))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
