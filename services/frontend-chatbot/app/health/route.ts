/** Says that this server answers. The backend has a /health of its own: one that is down must not stop this one. */
export const dynamic = 'force-dynamic'

export function GET(): Response {
  return Response.json({ status: 'ok' })
}
