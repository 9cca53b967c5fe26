package client

// Held counts the streams and producers that a client remembers.
func (c *Client) Held() (streams, producers int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.streams), len(c.producers)
}

// Open counts the batches that a client remembers.
func (c *Client) Open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, p := range c.producers {
		p.mu.Lock()
		n += len(p.open)
		p.mu.Unlock()
	}
	return n
}
