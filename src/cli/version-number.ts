/** Version of the command and, for a client, of the project. */
export const VERSION = '0.1.0'
