package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"sallyport.dev/sallyport/cmd/internal/config"
)

// tls checks this host's authority, and that no server is reached in clear over a
// network.
func (l *findings) tls(cfg *config.Config, now time.Time) {
	for _, r := range cfg.Resources {
		if far := inClear(&r); far != nil {
			l.note("TLS to "+r.Name, "off for "+strings.Join(far, ", ")+": passwords and rows go over the network in clear, and any server is believed",
				"remove tls.server: off, and name who vouches for the server in tls.ca (docs/tls.md)")
		}
		if r.TLS.Passes() {
			l.note("TLS to "+r.Name, "agents that a rule of policy names (undecoded) may have it with the server itself: what they say there is on no record",
				"remove tls.undecoded if no client needs it (docs/tls.md)")
		}
	}
	if !cfg.Authority.Enabled {
		return
	}
	cs, err := readCertificates(cfg)
	if err != nil {
		l.note("authority", err.Error(), "start sallyport: it makes one")
		return
	}
	c := cs[0]
	if now.After(c.NotAfter) {
		err = fmt.Errorf("has expired on %s: agents that ask for TLS do not get in", c.NotAfter.Format(time.DateOnly))
	}
	if err == nil {
		err = checkAuthority(cfg)
	}
	l.check("authority", "valid until "+c.NotAfter.Format(time.DateOnly), err, "make another: sallyport trust renew")
	if left := c.NotAfter.Sub(now); left > 0 && left < soon {
		l.note("authority", fmt.Sprintf("ends in %d days", left/(24*time.Hour)), "make another while both can stand in the stores: sallyport trust renew")
	}
	l.check("names of the authority", "all that agents dial", dialled(c, cfg),
		"add them to authority.permitted, and make another authority: sallyport trust renew")
	key := authorityAt(cfg.State).key
	l.check("key of the authority", "root's alone", keyIsRoots(key), "chown root "+key+" && chmod 600 "+key+"; if somebody may have read it: sallyport trust renew --yes")
}

// inClear are a resource's addresses beyond this host at which its server may be
// anybody.
func inClear(r *config.Resource) (far []string) {
	if r.TLS.Server != config.Off {
		return nil
	}
	for _, a := range r.Addresses {
		if !a.Prefix.IsValid() || !a.Prefix.Addr().IsLoopback() {
			far = append(far, a.String())
		}
	}
	return far
}

func dialled(c *x509.Certificate, cfg *config.Config) error {
	if missing := missingFrom(c, cfg); len(missing) > 0 {
		return errors.New("it may not vouch for " + fewOf(missing) + ", which agents dial: by TLS they do not get in there")
	}
	return nil
}

// keyIsRoots checks who can read and change a file.
func keyIsRoots(name string) error {
	fi, err := os.Lstat(name)
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	switch {
	case !fi.Mode().IsRegular() || !ok:
		return fmt.Errorf("%s is no regular file", name)
	case st.Uid != 0:
		return fmt.Errorf("%s belongs to user %d", name, st.Uid)
	case fi.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s has mode %04o: others may read it", name, fi.Mode().Perm())
	case st.Nlink > 1:
		return fmt.Errorf("%s has a second name (hard link), where other permissions may hold", name)
	}
	return nil
}
