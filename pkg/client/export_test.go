package client

// Held counts the streams and producers that a client remembers.
func (c *Client) Held() (streams, producers int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.streams), len(c.producers)
}
