package config

// The schema is a table per mapping: name of the field, how to read it.

func (c *Config) into() into {
	return func(d *decoder, at cursor) {
		mapping(c.fields()...)(d, at)
		c.checkStore(d)
	}
}

func (c *Config) fields() []field {
	return []field{
		{name: "interfaces", to: interfaces(&c.Interfaces)},
		{name: "table", to: mapping(c.Table.fields()...)},
		{name: "server", to: c.Server.into()},
		{name: "redis", to: pointer(&c.Redis, (*Redis).into)},
		{name: "fallback", to: mapping(c.Fallback.fields()...)},
		{name: "policies", to: list(&c.Policies, policyInto)},
		{name: "allow", to: list(&c.Allow, prefix)},
		{name: "deny", to: list(&c.Deny, prefix)},
	}
}

func (t *Table) fields() []field {
	return []field{
		{name: "entries", to: entries(&t.Entries)},
		{name: "l7_entries", to: entries(&t.L7Entries)},
	}
}
