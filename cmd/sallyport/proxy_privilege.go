package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// unprivileged refuses root, and capabilities that were left to another user.
func unprivileged() error {
	if os.Geteuid() == 0 {
		return &exitError{
			code: 1, err: errors.New("proxy must not run as root: it reads what agents send"),
			hint: `as root, guard the host with "sallyport run"; in a container of CI: setpriv --reuid 65534 --regid 65534 --clear-groups sallyport proxy ...`,
		}
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return fmt.Errorf("read the capabilities of proxy: %w", err)
	}
	for _, d := range data {
		if d.Permitted|d.Effective != 0 {
			return &exitError{
				code: 1, err: errors.New("proxy must not have capabilities: it reads what agents send"),
				hint: "setpriv --inh-caps=-all --ambient-caps=-all sallyport proxy ...; and give the program no file capabilities: setcap -r FILE",
			}
		}
	}
	return nil
}
