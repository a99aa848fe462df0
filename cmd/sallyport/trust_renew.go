package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept/tlsport"
)

func trustRenewCmd() *cobra.Command {
	var yes, finish bool
	cmd := &cobra.Command{
		Use:   "renew",
		Short: "Make another authority for this host, with the configuration's names",
		Long: `Makes another authority, with keys of its own, limited to authority.permitted (or
the names and addresses that agents dial now). The old key is gone with that; the
old root stays, so that both can stand in the stores until all agents have the new
one:

  1. sallyport trust renew
  2. sallyport trust install     in all stores; images too
  3. start sallyport again       a running one signs with the old key until then
  4. sallyport trust renew --finish
  5. sallyport trust install     takes the old one out of the stores

Between 1 and 2 do not start sallyport: agents do not trust the new one yet.
An authority that is still good for 60 days, and permits all that agents dial, is
replaced only with --yes; one of an earlier version of sallyport also without.`,
		Example: `  sudo sallyport trust renew
  sudo sallyport trust renew --finish`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := commandConfig(cmd)
			if err != nil {
				return err
			}
			if !cfg.Authority.Enabled {
				return configError(errors.New("authority.enabled is not set: this host has no authority"))
			}
			out := cmd.OutOrStdout()
			if finish {
				if err := finishAuthority(cfg); err != nil {
					return asRoot(err)
				}
				fmt.Fprintln(out, "the old certificate is no longer wanted; `sallyport trust install` takes it out of the stores")
				return nil
			}
			c, err := renewAuthority(cfg, yes, time.Now())
			if err != nil {
				return asRoot(err)
			}
			fmt.Fprintf(out, "SHA-256      %s\n", tlsport.Fingerprint(c))
			fmt.Fprintf(out, "valid        until %s\n", c.NotAfter.Format(time.DateOnly))
			fmt.Fprintln(out, "next: `sallyport trust install`, then start sallyport again, then `sallyport trust renew --finish`")
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&yes, "yes", false, "also when the authority is good for long")
	f.BoolVar(&finish, "finish", false, "be done with the old certificate: all agents have the new one")
	cmd.MarkFlagsMutuallyExclusive("yes", "finish")
	return cmd
}

func asRoot(err error) error {
	if errors.Is(err, os.ErrPermission) {
		return &exitError{code: 1, hint: "the authority is root's: run it with sudo", err: err}
	}
	return err
}

// renewAuthority puts another authority in the place of a host's, and the
// certificates that were there beside it.
func renewAuthority(cfg *config.Config, yes bool, now time.Time) (*x509.Certificate, error) {
	at := authorityAt(cfg.State)
	had, err := readCertificates(cfg)
	if err != nil && !yes {
		return nil, fmt.Errorf("%w (or make one now, with --yes)", err)
	}
	usable := checkAuthority(cfg) == nil
	if err == nil && !yes && usable && now.Add(soon).Before(had[0].NotAfter) && len(missingFrom(had[0], cfg)) == 0 {
		return nil, &exitError{
			code: 1, hint: "replace it all the same with --yes: every agent must then trust another certificate",
			err: fmt.Errorf("the authority is good until %s and permits all that agents dial", had[0].NotAfter.Format(time.DateOnly)),
		}
	}
	var limits tlsport.Permitted
	limits.Names, limits.Prefixes = cfg.AuthorityLimits()
	a, err := tlsport.NewAuthority(cfg.Host, limits, now)
	if err != nil {
		return nil, err
	}
	if missing := missingFrom(a.Root(), cfg); len(missing) > 0 {
		return nil, configError(fmt.Errorf("authority.permitted leaves out what agents dial: %s: add it", strings.Join(missing, ", ")))
	}
	f, err := a.Files()
	if err != nil {
		return nil, err
	}
	defer clear(f.Key)
	if err := os.MkdirAll(at.folder, 0o755); err != nil {
		return nil, err
	}
	t, err := openTree(at.folder)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	// A signer that starts in the middle finds what does not belong together, signs
	// nothing, and is started again.
	for _, w := range []struct {
		name string
		text []byte
		mode uint32
	}{{oldCertificates(cfg), had.pem(), 0o644}, {at.key, f.Key, 0o600}, {at.intermediate, f.Intermediate, 0o644}, {at.root, f.Root, 0o644}} {
		if len(w.text) == 0 {
			continue
		}
		if _, err := t.write(filepath.Base(w.name), w.text, w.mode); err != nil {
			return nil, err
		}
	}
	return a.Root(), nil
}

// finishAuthority forgets the certificates before the authority's own.
func finishAuthority(cfg *config.Config) error {
	if _, err := os.Stat(oldCertificates(cfg)); errors.Is(err, fs.ErrNotExist) {
		return errors.New("there is no old certificate: nothing is to be finished")
	}
	return os.Remove(oldCertificates(cfg))
}
