package kis

import "sync"

// metadata is values by key; the zero value is ready for use.
type metadata struct {
	mu     sync.Mutex
	values map[string]any // guarded by mu
}

func (m *metadata) get(key string) any {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.values[key]
}

// take empties m.
func (m *metadata) take() map[string]any {
	m.mu.Lock()
	defer m.mu.Unlock()
	values := m.values
	m.values = nil
	return values
}

// copyTo copies all values.
func (m *metadata) copyTo(other *metadata) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, value := range m.values {
		other.set(key, value)
	}
}

func (m *metadata) set(key string, value any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.values == nil {
		m.values = make(map[string]any)
	}
	m.values[key] = value
}
