package discover

import (
	"time"

	"sallyport.dev/sallyport/bpf"
)

// Look takes an inventory of this moment: what is connected, who listens, and
// who forwards. It attaches nothing.
func Look() (*Inventory, error) {
	c := newCollector("")
	c.inv.Since = time.Now()
	if err := c.look(true); err != nil {
		return nil, err
	}
	return c.done(), nil
}

func newCollector(root string) *collector {
	return &collector{
		rows: map[row]*Contact{}, known: map[bpf.DiscoverReach]Process{}, reaches: map[uint32]map[string]Service{},
		open: map[[2]uint64]bool{}, problems: map[string]bool{}, root: root,
		names: map[string]string{}, tried: map[string]bool{},
		home: namespace(procfs + "/self"), local: addresses(),
	}
}

// done puts the rows together.
func (c *collector) done() *Inventory {
	for _, r := range c.rows {
		c.inv.Contacts = append(c.inv.Contacts, *r)
	}
	c.inv.Listeners, c.inv.Forwarders = c.listeners, c.forwarders()
	for i := range c.inv.Contacts {
		c.inv.Contacts[i].Workload = c.names[c.inv.Contacts[i].Cgroup]
	}
	for i := range c.inv.Listeners {
		c.inv.Listeners[i].Workload = c.names[c.inv.Listeners[i].Cgroup]
	}
	for i := range c.inv.Forwarders {
		c.inv.Forwarders[i].Workload = c.names[c.inv.Forwarders[i].Cgroup]
	}
	c.inv.Until = time.Now()
	c.inv.sort()
	return &c.inv
}
